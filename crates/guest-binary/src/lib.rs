//! The guest as bytes: a static program that an engine puts into a container, whatever its image.

/// The executable of crate `guest`, linked statically: 0.8 MB with musl, 1.6 with glibc.
pub static GUEST: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/guest"));

#[cfg(test)]
mod tests {
    use super::GUEST;

    /// Offset of the number of program headers in a 64-bit ELF header.
    const HEADER_COUNT: usize = 56;
    /// Offset of the place of the program headers.
    const HEADER_PLACE: usize = 32;
    /// Bytes of a program header.
    const HEADER_BYTES: usize = 56;
    /// The program header that names a loader, which a static program does not have.
    const PT_INTERP: u32 = 3;

    #[test]
    fn the_guest_is_a_small_program_that_needs_no_loader() {
        assert_eq!(&GUEST[..4], b"\x7fELF");
        assert!(GUEST.len() < 2 << 20, "{} bytes", GUEST.len());
        let count = u16::from_le_bytes([GUEST[HEADER_COUNT], GUEST[HEADER_COUNT + 1]]);
        let place = GUEST[HEADER_PLACE..HEADER_PLACE + 8].try_into();
        let place = usize::try_from(u64::from_le_bytes(place.expect("eight bytes")));
        let place = place.expect("within the file");
        for index in 0..usize::from(count) {
            let header = place + index * HEADER_BYTES;
            let kind = GUEST[header..header + 4].try_into().expect("four bytes");
            assert_ne!(u32::from_le_bytes(kind), PT_INTERP, "it names a loader");
        }
    }
}
