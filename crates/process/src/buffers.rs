//! What the allocator does with memory that is given back to it.

/// Allocations of up to so many bytes come from memory that the allocator keeps.
const KEPT_ALLOCATION_BYTES: libc::c_int = 8 << 20;
/// So much unused memory at the end of what it keeps is given back to the kernel.
const GIVEN_BACK_BYTES: libc::c_int = 16 << 20;

/// Has the allocator keep memory for buffers. By default it gives some hundred KiB that are unused
/// back to the kernel at once, so that a program that moves bytes in large pieces is given a page
/// anew for every 4 KiB that pass: that costs more than to copy them. To be called when the program
/// begins, by programs that move much.
#[expect(unsafe_code, reason = "the C library is told how to allocate")]
pub fn keep_buffers() {
    // SAFETY: it takes numbers only, and may be called at any time. What it refuses stays as it
    // was, which works as well.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, KEPT_ALLOCATION_BYTES);
        libc::mallopt(libc::M_TRIM_THRESHOLD, GIVEN_BACK_BYTES);
    }
}

#[cfg(test)]
mod tests {
    use super::keep_buffers;
    use std::hint::black_box;

    /// So often the kernel gave this thread a page.
    fn faults() -> u64 {
        let stat = std::fs::read_to_string("/proc/thread-self/stat").expect("it can be read");
        let (_, after) = stat.rsplit_once(')').expect("a name in parentheses");
        let minor = after.split_whitespace().nth(7).expect("the tenth field");
        minor.parse().expect("a number")
    }

    /// Buffers of some pieces of a stream, and how often they are made and dropped.
    const BUFFERS: usize = 8;
    const ROUNDS: u64 = 100;
    const BUFFER_BYTES: usize = 256 << 10;

    /// In a thread of its own, whose allocations are nobody else's.
    fn faults_of_buffers() -> u64 {
        let run = || {
            let before = faults();
            for _ in 0..ROUNDS {
                let all: Vec<_> = (0..BUFFERS).map(|_| vec![1_u8; BUFFER_BYTES]).collect();
                black_box(all);
            }
            faults() - before
        };
        std::thread::spawn(run).join().expect("no panic")
    }

    #[test]
    fn buffers_lie_where_those_before_them_did() {
        let pages = u64::try_from(BUFFERS * BUFFER_BYTES / 4096).expect("few");
        let usual = faults_of_buffers();
        keep_buffers();
        let kept = faults_of_buffers();
        assert!(kept < 4 * pages, "{kept} pages for {ROUNDS} times {pages}");
        assert!(usual > 10 * kept, "the control: {usual} pages, and {kept}");
    }
}
