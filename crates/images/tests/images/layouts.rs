//! Archives of layers, made as tools make them, and with every document open to be spoiled.

use crate::tars::Tar;
use images::{Digest, Platform};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

/// Digest of some bytes.
pub(crate) fn digest(bytes: &[u8]) -> Digest {
    Digest(Sha256::digest(bytes).into())
}

/// One image with its layers, each as it is stored and uncompressed.
pub(crate) struct Image {
    pub(crate) layers: Vec<(Vec<u8>, Vec<u8>)>,
    pub(crate) config: Value,
    pub(crate) name: &'static str,
}

impl Image {
    /// With uncompressed layers, for this machine.
    pub(crate) fn new(layers: &[&[u8]]) -> Self {
        let pairs: Vec<(&[u8], &[u8])> = layers.iter().map(|layer| (*layer, *layer)).collect();
        Self::compressed(&pairs)
    }

    pub(crate) fn compressed(layers: &[(&[u8], &[u8])]) -> Self {
        let platform = Platform::default();
        let diff_ids: Vec<String> = layers
            .iter()
            .map(|(_, plain)| digest(plain).to_string())
            .collect();
        Self {
            layers: layers
                .iter()
                .map(|(stored, plain)| (stored.to_vec(), plain.to_vec()))
                .collect(),
            config: json!({
                "architecture": platform.architecture,
                "os": platform.os,
                "created": "2026-01-02T03:04:05Z",
                "config": {"Env": ["PATH=/bin"], "Cmd": ["/bin/sh"], "User": "1000:1000"},
                "rootfs": {"type": "layers", "diff_ids": diff_ids},
            }),
            name: "example/thing:1",
        }
    }
}

/// An OCI layout whose parts may be changed before it is written.
#[derive(Default)]
pub(crate) struct Layout {
    /// By name, in order.
    pub(crate) parts: Vec<(String, Vec<u8>)>,
    pub(crate) manifests: Vec<Value>,
}

impl Layout {
    pub(crate) fn of(images: &[Image]) -> Self {
        let mut layout = Self::default();
        for image in images {
            layout.add(image);
        }
        layout
    }

    /// Adds a blob and gives what describes it.
    pub(crate) fn blob(&mut self, kind: &str, bytes: &[u8]) -> Value {
        let digest = digest(bytes);
        let name = format!("blobs/sha256/{}", digest.hex());
        if !self.parts.iter().any(|(known, _)| *known == name) {
            self.parts.push((name, bytes.to_vec()));
        }
        json!({"mediaType": kind, "digest": digest.to_string(), "size": bytes.len()})
    }

    pub(crate) fn add(&mut self, image: &Image) {
        let config = image.config.to_string();
        let config = self.blob(
            "application/vnd.oci.image.config.v1+json",
            config.as_bytes(),
        );
        let layers: Vec<Value> = image
            .layers
            .iter()
            .map(|(stored, _)| self.blob("application/vnd.oci.image.layer.v1.tar", stored))
            .collect();
        let manifest = json!({"schemaVersion": 2, "config": config, "layers": layers});
        let kind = "application/vnd.oci.image.manifest.v1+json";
        let mut described = self.blob(kind, manifest.to_string().as_bytes());
        described["annotations"] = json!({"org.opencontainers.image.ref.name": image.name});
        self.manifests.push(described);
    }

    /// The archive.
    pub(crate) fn end(self) -> Vec<u8> {
        let index = json!({"schemaVersion": 2, "manifests": self.manifests});
        self.end_with(&index)
    }

    pub(crate) fn end_with(self, index: &Value) -> Vec<u8> {
        let mut tar = Tar::new()
            .directory("blobs/")
            .directory("blobs/sha256/")
            .file("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#);
        for (name, bytes) in &self.parts {
            tar = tar.file(name, bytes);
        }
        tar.file("index.json", index.to_string().as_bytes()).end()
    }
}

/// What docker save writes since version 25: an OCI layout with a list beside it.
pub(crate) fn newer_docker(images: &[Image], change: impl FnOnce(&mut Value)) -> Vec<u8> {
    let mut layout = Layout::of(images);
    let mut list = Vec::new();
    for (image, manifest) in images.iter().zip(&mut layout.manifests) {
        let tag = image.name.rsplit(':').next();
        manifest["annotations"] = json!({
            "io.containerd.image.name": format!("docker.io/{}", image.name),
            "org.opencontainers.image.ref.name": tag,
        });
        let blob = |bytes: &[u8]| format!("blobs/sha256/{}", digest(bytes).hex());
        let layers: Vec<String> = image
            .layers
            .iter()
            .map(|(stored, _)| blob(stored))
            .collect();
        list.push(json!({
            "Config": blob(image.config.to_string().as_bytes()),
            "RepoTags": [image.name],
            "Layers": layers,
            "LayerSources": {},
        }));
    }
    let mut list = Value::from(list);
    change(&mut list);
    layout
        .parts
        .push(("manifest.json".to_owned(), list.to_string().into_bytes()));
    layout
        .parts
        .push(("repositories".to_owned(), b"{}".to_vec()));
    layout.end()
}

/// What docker save of version 20 writes.
pub(crate) fn docker(images: &[Image]) -> Vec<u8> {
    let mut tar = Tar::new();
    let mut entries = Vec::new();
    let mut written = Vec::new();
    for image in images {
        let config = image.config.to_string();
        let name = format!("{}.json", digest(config.as_bytes()).hex());
        let mut layers = Vec::new();
        for (stored, _) in &image.layers {
            // Its name there is another digest, which nobody can check.
            let id = digest(&[stored.as_slice(), b"v1"].concat()).hex();
            let path = format!("{id}/layer.tar");
            if !written.contains(&id) {
                tar = tar
                    .directory(&format!("{id}/"))
                    .file(&format!("{id}/VERSION"), b"1.0")
                    .file(&path, stored);
                written.push(id);
            }
            layers.push(path);
        }
        tar = tar.file(&name, config.as_bytes());
        entries.push(json!({"Config": name, "RepoTags": [image.name], "Layers": layers}));
    }
    tar.file("manifest.json", Value::from(entries).to_string().as_bytes())
        .file("repositories", b"{}")
        .end()
}
