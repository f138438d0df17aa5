//! An allocator that counts: how often memory was asked for, and how much of it lives.
//!
//! The one unsafe code of the benches: it passes every call on to the system's allocator and only counts beside it.
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
    /// Bytes and blocks; below zero where others' were given back.
    static HELD: Cell<[isize; 2]> = const { Cell::new([0; 2]) };
}

/// Set as `#[global_allocator]` by a bench that counts.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counting;

impl Counting {
    /// How often this thread has asked for memory, growth of what was there included.
    #[must_use]
    pub fn allocations() -> usize {
        ALLOCATIONS.get()
    }

    /// Bytes, and pieces of memory, that this thread asked for, less those that it gave back. The system's allocator
    /// keeps up to 16 bytes of its own beside each piece.
    #[must_use]
    pub fn held() -> [isize; 2] {
        HELD.get()
    }
}

/// No layout is larger than `isize::MAX`.
fn signed(size: usize) -> isize {
    size.cast_signed()
}

fn hold(bytes: isize, blocks: isize) {
    // As below.
    HELD.try_with(|held| held.set([held.get()[0] + bytes, held.get()[1] + blocks])).unwrap_or_default();
}

fn count() {
    // A thread that ends may free and ask when its cell is gone: nobody reads that count.
    ALLOCATIONS.try_with(|count| count.set(count.get() + 1)).unwrap_or_default();
}

// SAFETY: each method hands its arguments unchanged to the system's allocator, whose contract is the same.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        hold(signed(layout.size()), 1);
        // SAFETY: the caller keeps to the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count();
        hold(signed(layout.size()), 1);
        // SAFETY: the caller keeps to the contract of `alloc_zeroed`.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, place: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        hold(signed(size) - signed(layout.size()), 0);
        // SAFETY: the caller keeps to the contract of `realloc`.
        unsafe { System.realloc(place, layout, size) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        hold(-signed(layout.size()), -1);
        // SAFETY: the caller keeps to the contract of `dealloc`.
        unsafe { System.dealloc(place, layout) }
    }
}
