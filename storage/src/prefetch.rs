//! Asking the processor to fetch memory that will be looked at soon.
//!
//! A look at a partition that was not touched lately waits for memory two or three times, one
//! after the other, and each wait costs as much as some hundred instructions. Who knows several
//! partitions that it is going to look at asks for all of them first, and the waits overlap.
//!
//! This is the crate's only module with `unsafe`: the instruction takes an address, and nothing
//! safe gives it. It reads nothing, faults on no address, and changes nothing that a program can
//! see but time. Where there is no such instruction it does nothing.

#![expect(unsafe_code, reason = "the prefetch instruction has no safe form")]

/// Length of a cache line.
const LINE_BYTES: usize = 64;

/// Begins to fetch a value's first cache line.
#[inline]
pub(crate) fn prefetch<T>(value: &T) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: a prefetch is a hint; it is defined for every address, and this one is valid.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(std::ptr::from_ref(value).cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = value;
}

/// Begins to fetch every cache line that bytes lie in; for a few of them.
#[inline]
pub(crate) fn prefetch_lines(bytes: &[u8]) {
    bytes.iter().step_by(LINE_BYTES).for_each(prefetch);
    bytes.last().into_iter().for_each(prefetch);
}
