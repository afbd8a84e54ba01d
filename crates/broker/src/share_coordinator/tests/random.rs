//! Batches put on top of one another, against a model that looks at each offset on its own.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::super::state::{ShareState, StateBatch};

proptest! {
    #[test]
    fn of_each_offset_the_most_is_known(
        writes in prop::collection::vec((0i64..60, 0i64..15, 0i8..3, 1i16..4, 0i64..50), 1..40)
    ) {
        let mut state = ShareState::default();
        let mut model: BTreeMap<i64, (i16, i8)> = BTreeMap::new();
        let mut start = 0;
        for (first, length, fate, count, wanted_start) in writes {
            start = start.max(wanted_start / 2);
            let fate = 2 * fate;
            let batch = StateBatch {
                first_offset: first,
                last_offset: first + length,
                delivery_state: fate,
                delivery_count: count,
            };
            state.move_start(start.max(state.start_offset));
            state.put(&[batch]);
            for offset in first..=first + length {
                let known = model.entry(offset).or_insert((count, fate));
                *known = (*known).max((count, fate));
            }
            model.retain(|offset, _| *offset >= start);
            if count == 2 {
                state.join();
            }
            let batches = state.batches();
            let each = batches.iter().flat_map(|batch| {
                (batch.first_offset..=batch.last_offset)
                    .map(|offset| (offset, (batch.delivery_count, batch.delivery_state)))
            });
            prop_assert_eq!(each.collect::<BTreeMap<_, _>>(), model.clone());
            let mut pairs = batches.iter().zip(batches.iter().skip(1));
            prop_assert!(pairs.all(|(left, right)| left.last_offset < right.first_offset));
        }
    }
}
