//! An allocator that counts: how often memory was asked for, and how much of it lives.
//!
//! The one unsafe code of the benches: it passes every call on to the system's allocator and only counts beside it.
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::atomic::{AtomicUsize, Ordering};

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}
static LIVE_BYTES: AtomicUsize = AtomicUsize::new(0);

/// Set as `#[global_allocator]` by a bench that counts.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counting;

impl Counting {
    /// How often this thread has asked for memory, growth of what was there included.
    #[must_use]
    pub fn allocations() -> usize {
        ALLOCATIONS.get()
    }

    /// Bytes that were asked for and not given back, by all threads.
    #[must_use]
    pub fn live_bytes() -> usize {
        LIVE_BYTES.load(Ordering::Relaxed)
    }
}

fn count(taken: usize, given: usize) {
    // A thread that ends may free and ask when its cell is gone: nobody reads that count.
    ALLOCATIONS.try_with(|count| count.set(count.get() + 1)).unwrap_or_default();
    LIVE_BYTES.fetch_add(taken, Ordering::Relaxed);
    LIVE_BYTES.fetch_sub(given, Ordering::Relaxed);
}

// SAFETY: each method hands its arguments unchanged to the system's allocator, whose contract is the same.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size(), 0);
        // SAFETY: the caller keeps to the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size(), 0);
        // SAFETY: the caller keeps to the contract of `alloc_zeroed`.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, place: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size, layout.size());
        // SAFETY: the caller keeps to the contract of `realloc`.
        unsafe { System.realloc(place, layout, size) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        LIVE_BYTES.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller keeps to the contract of `dealloc`.
        unsafe { System.dealloc(place, layout) }
    }
}
