//! Asking the processor to fetch memory that will be looked at soon.
//!
//! A look at a partition or a group that was not touched lately waits for memory several times, one
//! after the other, and each wait costs as much as some hundred instructions. Who knows several that
//! it is going to look at asks for all of them first, and the waits overlap.
//!
//! The instruction takes an address, and nothing safe gives it. It reads nothing, faults on no
//! address, and changes nothing that a program can see but time. Where there is no such instruction it
//! does nothing.

#![expect(unsafe_code, reason = "the prefetch instruction has no safe form")]

/// Length of a cache line.
const LINE_BYTES: usize = 64;

/// Begins to fetch a value's first cache line.
#[inline]
pub fn prefetch<T>(value: &T) {
    prefetch_at(std::ptr::from_ref(value).cast());
}

#[inline]
fn prefetch_at(address: *const u8) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: a prefetch is a hint; it is defined for every address.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(address.cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = address;
}

/// Begins to fetch every cache line of a value, for one of a few hundred bytes; not what it points to.
#[inline]
pub fn prefetch_value<T>(value: &T) {
    let start: *const u8 = std::ptr::from_ref(value).cast();
    for offset in (0..size_of::<T>()).step_by(LINE_BYTES) {
        prefetch_at(start.wrapping_add(offset));
    }
}

/// Begins to fetch every cache line that bytes lie in; for a few of them.
#[inline]
pub fn prefetch_lines(bytes: &[u8]) {
    bytes.iter().step_by(LINE_BYTES).for_each(prefetch);
    bytes.last().into_iter().for_each(prefetch);
}
