//! How a share partition's coordinator is reached by those who have something to keep: leaders and group coordinators.
//!
//! An answer that says "not here" or "not now", or none at all, is asked for again until the time is up. A write that came twice is no
//! harm: it says what is so, not what changes.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::future::join_all;
use protocol::{ErrorCode, Str};
use world::task::{self, Instant};

use super::event::Answer;
use super::messages::{Question, SHARE_STATE, decode_answers, encode_questions};
use super::{ShareCoordinator, ShareKey};
use crate::coordinators::coordinator_of;
use crate::peers::Others;

/// Between two tries, doubled each time.
const PAUSE_MIN: Duration = Duration::from_millis(20);
const PAUSE_MAX: Duration = Duration::from_secs(1);
/// For a commit at another broker, which in a bucket takes as long as the store does.
const ANSWER_MAX: Duration = Duration::from_secs(10);
/// Of one call: below the frame between brokers, also with as many batches as a partition may have locked.
const QUESTIONS_PER_CALL_MAX: usize = 20;

impl ShareCoordinator {
    /// One question; see [`ShareCoordinator::keep_all`].
    pub async fn keep(&self, group: &Str, question: Question, within: Duration) -> Answer {
        self.keep_all(group, vec![question], within).await.pop().expect("one answer for one question")
    }

    /// Asks the coordinators of the share partitions, wherever they are. One answer for each question, in their order.
    pub async fn keep_all(&self, group: &Str, questions: Vec<Question>, within: Duration) -> Vec<Answer> {
        if questions.is_empty() {
            return Vec::new();
        }
        let until = task::now() + within;
        if self.topic().is_none()
            && let Err(error) = self.ensure_topic().await
        {
            return questions.iter().map(|_| Err(error.into())).collect();
        }
        let mut answers: Vec<Option<Answer>> = questions.iter().map(|_| None).collect();
        let mut pause = PAUSE_MIN;
        loop {
            let open: Vec<usize> = (0..questions.len()).filter(|&at| !is_final(&answers[at])).collect();
            if open.is_empty() {
                break;
            }
            self.ask_each(group, &questions, &open, until, &mut answers).await;
            if answers.iter().all(is_final) || task::now() + pause > until {
                break;
            }
            self.options.freshness.catch_up_soon();
            task::sleep(pause).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
        let not_reached = || Err(ErrorCode::CoordinatorNotAvailable.into());
        answers.into_iter().map(|answer| answer.unwrap_or_else(not_reached)).collect()
    }

    async fn ask_each(
        &self,
        group: &Str,
        questions: &[Question],
        open: &[usize],
        until: Instant,
        answers: &mut [Option<Answer>],
    ) {
        let Some(topic) = self.topic() else { return };
        let mut by_node: BTreeMap<i32, Vec<usize>> = BTreeMap::new();
        for &at in open {
            let (topic_id, partition, _) = &questions[at];
            let key = ShareKey { group: group.clone(), topic: *topic_id, partition: *partition };
            if let Some(node_id) = coordinator_of(&topic, &key.coordinator_key()) {
                by_node.entry(node_id).or_default().push(at);
            }
        }
        // Side by side: one that does not answer holds up nobody else's.
        let asked = by_node.into_iter().map(|(node_id, places)| async move {
            let asked: Vec<Question> = places.iter().map(|&at| questions[at].clone()).collect();
            let told = match node_id == self.options.node_id {
                true => self.ask_here(group, asked).await,
                false => self.ask_all_there(node_id, group, &asked, until).await,
            };
            (places, told)
        });
        for (places, told) in join_all(asked).await {
            for (at, answer) in places.into_iter().zip(told) {
                answers[at] = Some(answer);
            }
        }
    }

    /// Answers as far as there are some.
    async fn ask_all_there(
        &self,
        node_id: i32,
        group: &Str,
        questions: &[Question],
        until: Instant,
    ) -> Vec<Answer> {
        let mut told = Vec::with_capacity(questions.len());
        for questions in questions.chunks(QUESTIONS_PER_CALL_MAX) {
            let left = until.saturating_duration_since(task::now()).clamp(PAUSE_MAX, ANSWER_MAX);
            let Some(answers) = self.ask_there(node_id, group, questions, left).await else { break };
            told.extend(answers);
        }
        told
    }

    async fn ask_there(
        &self,
        node_id: i32,
        group: &Str,
        questions: &[Question],
        within: Duration,
    ) -> Option<Vec<Answer>> {
        let others = self.options.others.as_ref()?;
        let peer = Others::of(&self.options.catalog.read(), node_id)?;
        let body = encode_questions(group, questions).ok()?;
        let answer = others.peers.clone().transactions(peer, SHARE_STATE, body, within).await?;
        decode_answers(answer).ok().filter(|answers| answers.len() == questions.len())
    }
}

/// Asking again would give the same.
fn is_final(answer: &Option<Answer>) -> bool {
    match answer {
        None => false,
        Some(Ok(_)) => true,
        Some(Err(refusal)) => !matches!(
            refusal.error,
            ErrorCode::NotCoordinator
                | ErrorCode::CoordinatorNotAvailable
                | ErrorCode::CoordinatorLoadInProgress
        ),
    }
}
