//! The system's allocator, counted: how often this process asked for memory.
#![allow(unsafe_code)] // a global allocator cannot be written without

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};

/// For `#[global_allocator]` of a program. In one that does not name it nothing is counted.
pub struct Counting;

/// A thread tells the others of so many at a time: asking for memory must not become a fight for one cache line.
const TOLD_AT_ONCE: u32 = 64;

static TOLD: AtomicU64 = AtomicU64::new(0);

thread_local! {
    // Constant and without a destructor, so that its first use does not ask for memory itself.
    static UNTOLD: Cell<u32> = const { Cell::new(0) };
}

/// Allocations since the start; what grows or shrinks in its place or moves counts as one. Each thread is behind by less
/// than 64, for good when it ends.
pub fn allocations() -> u64 {
    TOLD.load(Ordering::Relaxed)
}

#[inline]
fn count() {
    UNTOLD.with(|untold| {
        let now = untold.get() + 1;
        if now < TOLD_AT_ONCE {
            untold.set(now);
        } else {
            untold.set(0);
            TOLD.fetch_add(u64::from(now), Ordering::Relaxed);
        }
    });
}

// SAFETY: every call goes to the system's allocator unchanged, and counting neither allocates nor panics.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        unsafe { System.alloc(layout) }
    }

    // The system has pages that are zero; without this they would be written.
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count();
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, place: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        unsafe { System.realloc(place, layout, size) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        unsafe { System.dealloc(place, layout) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[global_allocator]
    static ALLOCATOR: Counting = Counting;

    /// Other tests allocate at the same time; what this thread has not told yet is its own affair.
    #[test]
    fn what_is_made_zeroed_or_grown_is_counted_once_and_what_is_given_back_is_not() {
        const EACH: u32 = 1000;
        let counted = |what: &str, work: &mut dyn FnMut(), expected: u32| {
            let (untold, told) = (UNTOLD.get(), allocations());
            work();
            assert_eq!(UNTOLD.get(), (untold + expected) % TOLD_AT_ONCE, "{what}");
            assert!(allocations() + u64::from(TOLD_AT_ONCE) > told + u64::from(expected), "{what}");
        };
        let mut made: Vec<Box<u32>> = Vec::with_capacity(EACH as usize);
        counted(
            "made",
            &mut || made.extend((0..EACH).map(|number| std::hint::black_box(Box::new(number)))),
            EACH,
        );
        counted("zeroed", &mut || (0..EACH).for_each(|_| drop(std::hint::black_box(vec![0_u8; 100]))), EACH);
        let mut grown: Vec<u8> = Vec::new();
        counted("grown", &mut || (0..EACH).for_each(|_| grown.reserve_exact(grown.capacity() + 1)), EACH);
        counted("given back", &mut || (made, grown) = (Vec::new(), Vec::new()), 0);
    }
}
