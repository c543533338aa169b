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
    let (skipped_back, length) = whole_pages(start.addr(), bytes);
    #[cfg(target_os = "linux")]
    {
        use rustix::mm::{Advice, madvise};
        // SAFETY: this advice changes neither the content of memory nor whether it is there, only
        // the size of the pages that hold it; so it does no harm to what shares the first and the
        // last page with the slice. The address is only passed on. An error means that there are
        // no huge pages, or that some of the range is nobody's memory.
        let _advised = unsafe {
            madvise(start.wrapping_sub(skipped_back).cast(), length, Advice::LinuxHugepage)
        };
    }
}

/// All pages that memory lies in: how far before it they begin, and their length. The whole of
/// them, since an allocator that aligns memory to huge pages has a few bytes of its own in the
/// first, and advice that leaves these out leaves the huge page out.
fn whole_pages(start: usize, bytes: usize) -> (usize, usize) {
    let skipped_back = start % PAGE_BYTES;
    (skipped_back, (skipped_back + bytes).next_multiple_of(PAGE_BYTES))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn advice_is_for_every_page_that_memory_lies_in() {
        let huge = 10 * HUGE_PAGE_BYTES;
        assert_eq!(whole_pages(huge, PAGE_BYTES), (0, PAGE_BYTES));
        // What an allocator gives for two huge pages, less its own bytes.
        let two = 2 * HUGE_PAGE_BYTES;
        assert_eq!(whole_pages(huge + 16, two - 4096), (16, two));
        assert_eq!(whole_pages(huge - 1, 2), (PAGE_BYTES - 1, 2 * PAGE_BYTES));
    }

    #[test]
    fn advice_leaves_memory_as_it_is() {
        for length in [0, 1, HUGE_PAGE_BYTES - 1, HUGE_PAGE_BYTES, 3 * HUGE_PAGE_BYTES + 5] {
            let mut memory: Vec<u8> = (0..length).map(|at| at as u8).collect();
            advise_huge_pages(&mut memory);
            assert!(memory.iter().enumerate().all(|(at, byte)| *byte == at as u8));
        }
    }
}
