//! Advice to the system about memory.

#![expect(unsafe_code, reason = "the advice names an address and a length")]

/// Size of a huge page on the processors this runs on.
pub const HUGE_PAGE_BYTES: usize = 2 << 20;
/// Advice is given for whole pages; no system here has larger ordinary ones.
const PAGE_BYTES: usize = 64 << 10;

/// Asks the system to back memory with huge pages, for tables that are read at random: a look-up
/// then seldom waits for a page table as well. Only what is at least one huge page long is worth
/// it; the memory is taken in steps of that size when it is first written. A hint: where it is not
/// understood, nothing happens.
pub fn advise_huge_pages<T>(memory: &mut [T]) {
    let bytes = size_of_val(memory);
    if bytes < HUGE_PAGE_BYTES {
        return;
    }
    let start: *mut u8 = memory.as_mut_ptr().cast();
    let skipped = start.align_offset(PAGE_BYTES);
    let length = bytes.saturating_sub(skipped) / PAGE_BYTES * PAGE_BYTES;
    #[cfg(target_os = "linux")]
    {
        use rustix::mm::{Advice, madvise};
        // SAFETY: `skipped + length <= bytes`, so the address is inside the slice, which is
        // borrowed for writing. This advice changes neither the content of memory nor whether it
        // is there, only the size of the pages that hold it. An error means there are none.
        let _advised = unsafe { madvise(start.add(skipped).cast(), length, Advice::LinuxHugepage) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn advice_leaves_memory_as_it_is() {
        for length in [0, 1, HUGE_PAGE_BYTES - 1, HUGE_PAGE_BYTES, 3 * HUGE_PAGE_BYTES + 5] {
            let mut memory: Vec<u8> = (0..length).map(|at| at as u8).collect();
            advise_huge_pages(&mut memory);
            assert!(memory.iter().enumerate().all(|(at, byte)| *byte == at as u8));
        }
    }
}
