//! The bytes of a manifest, and the id that follows from them.

use domain::image::{Digest, ImageId, Manifest};
use sha2::{Digest as _, Sha256};

/// The canonical bytes: compact JSON with the fields in the order of the type, maps sorted by
/// key, and what is empty left out.
pub fn canonical(manifest: &Manifest) -> Vec<u8> {
    serde_json::to_vec(manifest).expect("a manifest has only text, numbers and sorted maps")
}

/// The id of the image that `manifest` describes.
pub fn image_id(manifest: &Manifest) -> ImageId {
    ImageId(digest_of(&canonical(manifest)))
}

/// SHA-256 of `bytes`.
pub(crate) fn digest_of(bytes: &[u8]) -> Digest {
    Digest(Sha256::digest(bytes).into())
}

#[cfg(test)]
mod tests {
    use super::{canonical, digest_of, image_id};
    use domain::image::{Layer, Manifest, Settings};

    #[test]
    fn an_id_never_changes() {
        let digest = digest_of(b"");
        let layer = Layer {
            digest,
            diff_id: digest,
            bytes: 1,
            stored_bytes: 2,
            entries: 3,
        };
        let mut settings = Settings {
            command: vec!["sh".into()],
            env: vec![("A".into(), "é".into())],
            ..Settings::default()
        };
        settings.labels.insert("b".into(), "2".into());
        settings.labels.insert("a".into(), "1".into());
        let manifest = Manifest {
            format: Manifest::FORMAT,
            layers: vec![layer],
            settings,
            architecture: "amd64".into(),
            os: "linux".into(),
            created: None,
        };
        let empty = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        let expected = format!(
            r#"{{"format":1,"layers":[{{"digest":"{empty}","diff_id":"{empty}","bytes":1,"#
        ) + r#""stored_bytes":2,"entries":3}],"settings":{"command":["sh"],"env":[["A","é"]],"#
            + r#""labels":{"a":"1","b":"2"}},"architecture":"amd64","os":"linux"}"#;
        let bytes = canonical(&manifest);
        assert_eq!(String::from_utf8_lossy(&bytes), expected);
        assert_eq!(image_id(&manifest).0, digest_of(expected.as_bytes()));
        let read: Manifest = serde_json::from_slice(&bytes).expect("it reads its own bytes");
        assert_eq!(read, manifest);
    }
}
