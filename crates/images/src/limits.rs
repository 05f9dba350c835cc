//! What an image may contain at most. Each limit is far above what honest images have.

/// Limits of one import. What goes over one is refused, and named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of the archive as it is sent, and again of an archive of layers when uncompressed.
    pub archive_bytes: u64,
    /// Bytes of all files of all layers together, without holes.
    pub image_bytes: u64,
    /// Entries of all layers together.
    pub entries: u64,
    /// Layers. Overlayfs names each in one page of mount options.
    pub layers: usize,
    /// How many bytes one compressed byte may become, once [`Self::ratio_from_bytes`] are reached.
    pub ratio: u64,
    /// Bytes that any compressed stream may become without its ratio being looked at.
    pub ratio_from_bytes: u64,
    /// Bytes that a sparse file may pretend to have.
    pub file_bytes: u64,
    /// Names that one file has by hard links. ext4 gives it no more, and then the image could be
    /// imported and not be run.
    pub links: u32,
    /// Names of a path, one below the other.
    pub depth: usize,
    /// Bytes of a path.
    pub path_bytes: usize,
    /// Bytes of all directories' paths of one layer together: these are kept in memory.
    pub directory_bytes: u64,
    /// Bytes of one extended header.
    pub header_bytes: u64,
    /// Bytes of one JSON document: an index, a manifest, a configuration.
    pub document_bytes: u64,
    /// Bytes of all settings together.
    pub settings_bytes: usize,
}

impl Limits {
    /// Longest name of one file, in bytes: the kernel's.
    pub const NAME_BYTES: usize = 255;
    /// Longest target of a symbolic link, in bytes: the kernel's.
    pub const LINK_BYTES: usize = 4_095;
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            archive_bytes: 128 << 30,
            image_bytes: 256 << 30,
            entries: 2_000_000,
            layers: 127,
            ratio: 300,
            ratio_from_bytes: 512 << 20,
            file_bytes: 16 << 40,
            links: 65_000,
            depth: 256,
            path_bytes: 4_095,
            directory_bytes: 128 << 20,
            header_bytes: 1 << 20,
            document_bytes: 4 << 20,
            settings_bytes: 512 << 10,
        }
    }
}
