//! Documents that lie, contradict themselves, or name what is not theirs.

use super::Case;
use crate::layouts::{Image, Layout, digest, docker, newer_docker};
use crate::tars::{Tar, gzip};
use images::Platform;
use serde_json::{Value, json};

pub(super) fn cases() -> Vec<Case> {
    [
        digests(),
        described(),
        documents(),
        images(),
        saved(),
        saved_anew(),
        parts(),
        settings(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn layer() -> Vec<u8> {
    Tar::new().file("a", b"content").end()
}

fn good() -> Vec<u8> {
    Layout::of(&[Image::new(&[&layer()])]).end()
}

/// An archive of one image whose manifest was changed.
fn changed(change: impl FnOnce(&mut Value)) -> Vec<u8> {
    let mut layout = Layout::of(&[Image::new(&[&layer()])]);
    let (_, bytes) = layout.parts.pop().expect("the manifest comes last");
    let mut manifest: Value = serde_json::from_slice(&bytes).expect("made here");
    change(&mut manifest);
    layout.manifests = vec![layout.blob("manifest", manifest.to_string().as_bytes())];
    layout.end()
}

/// An archive of one image whose configuration was changed.
fn configured(change: impl FnOnce(&mut Value)) -> Vec<u8> {
    let mut image = Image::new(&[&layer()]);
    change(&mut image.config);
    Layout::of(&[image]).end()
}

/// An archive one of whose blobs has another content than its name says.
fn spoiled(place: usize, change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut layout = Layout::of(&[Image::new(&[&layer()])]);
    change(&mut layout.parts[place].1);
    layout.end()
}

fn digests() -> Vec<Case> {
    let wrong = "its content has the digest sha256:";
    let swap = |bytes: &mut Vec<u8>| {
        *bytes = String::from_utf8_lossy(bytes)
            .replace("/bin", "/nib")
            .into_bytes()
    };
    vec![
        Case::archive(
            "a layer that is not what its digest says",
            wrong,
            spoiled(1, |bytes| *bytes = Tar::new().file("a", b"evil...").end()),
            good(),
        ),
        Case::archive(
            "a configuration that is not what its digest says",
            wrong,
            spoiled(0, swap),
            good(),
        ),
        Case::archive(
            "a manifest that is not what its digest says",
            wrong,
            spoiled(2, |bytes| {
                let place = bytes.len() - 1;
                bytes[place] = b' ';
            }),
            good(),
        ),
        Case::archive(
            "a layer that is longer than said",
            "bytes, not",
            spoiled(1, |bytes| bytes.extend_from_slice(&[0; 512])),
            good(),
        ),
        Case::archive(
            "a layer that is not what the configuration says",
            wrong,
            configured(|config| {
                let other = digest(b"another").to_string();
                config["rootfs"]["diff_ids"] = json!([other]);
            }),
            good(),
        ),
    ]
}

fn described() -> Vec<Case> {
    vec![
        Case::archive(
            "a digest that leads out of the blobs",
            "`sha256:../../../etc/passwd` is not a sha256 digest",
            changed(|manifest| {
                manifest["layers"][0]["digest"] = json!("sha256:../../../etc/passwd")
            }),
            changed(|_| {}),
        ),
        Case::archive(
            "a digest of a broken algorithm",
            "is not a sha256 digest",
            changed(|manifest| {
                manifest["config"]["digest"] = json!("md5:d41d8cd98f00b204e9800998ecf8427e");
            }),
            changed(|manifest| manifest["annotations"] = json!({})),
        ),
        Case::archive(
            "a blob that is not there",
            "it is named and not in the archive",
            changed(|manifest| {
                manifest["layers"][0]["digest"] = json!(digest(b"absent").to_string());
            }),
            changed(|manifest| manifest["layers"][0]["annotations"] = json!({})),
        ),
        Case::archive(
            "a descriptor with a negative size",
            "the document cannot be understood",
            changed(|manifest| manifest["layers"][0]["size"] = json!(-1)),
            changed(|manifest| manifest["layers"][0]["urls"] = json!([])),
        ),
    ]
}

fn documents() -> Vec<Case> {
    let with = |index: &Value| Layout::of(&[Image::new(&[&layer()])]).end_with(index);
    let manifests = Layout::of(&[Image::new(&[&layer()])]).manifests;
    let deep = |depth: usize| {
        let mut layout = Layout::of(&[Image::new(&[&layer()])]);
        for _ in 0..depth {
            let list = json!({"schemaVersion": 2, "manifests": layout.manifests});
            layout.manifests = vec![layout.blob("index", list.to_string().as_bytes())];
        }
        layout.end()
    };
    let twice = Tar {
        bytes: good()[..good().len() - 1_024].to_vec(),
    };
    vec![
        Case::archive(
            "an index that is a manifest too",
            "it is an index and a manifest at once",
            with(&json!({"schemaVersion": 2, "manifests": manifests, "layers": []})),
            with(&json!({"schemaVersion": 2, "manifests": manifests, "mediaType": "x"})),
        ),
        Case::archive(
            "a manifest that is an index too",
            "it is an index and a manifest at once",
            changed(|manifest| manifest["manifests"] = json!([])),
            changed(|manifest| manifest["subject"] = json!({})),
        ),
        Case::archive(
            "a document with a field twice",
            "the document cannot be understood",
            doubled(true),
            doubled(false),
        ),
        Case::archive(
            "an index of over 4 MiB",
            "the document has more than 4 MiB",
            with(&json!({"schemaVersion": 2, "manifests": manifests, "x": "x".repeat(4 << 20)})),
            with(&json!({"schemaVersion": 2, "manifests": manifests, "x": "x".repeat(1 << 20)})),
        ),
        Case::archive(
            "indexes six deep",
            "indexes are nested too deep",
            deep(6),
            deep(4),
        ),
        Case::archive(
            "two files of the name index.json",
            "it is in the archive twice",
            twice.clone().file("./index.json", b"{}").end(),
            twice.file("index.json.old", b"{}").end(),
        ),
    ]
}

fn images() -> Vec<Case> {
    let image = |layers: &[&[u8]]| Layout::of(&[Image::new(layers)]).end();
    let said = |architecture: &str| {
        let mut layout = Layout::of(&[Image::new(&[&layer()])]);
        layout.manifests[0]["platform"] = json!({"os": "linux", "architecture": architecture});
        layout.end()
    };
    let mut other = Image::new(&[&layer()]);
    other.config["architecture"] = json!("pdp11");
    let mut lying = Layout::of(&[other]);
    let own = Platform::default().architecture;
    lying.manifests[0]["platform"] = json!({"os": "linux", "architecture": own});
    vec![
        Case::archive(
            "a layer that is no archive",
            "layer 2: it is not an archive of a known form",
            image(&[&layer(), &[b'x'; 2_000]]),
            image(&[&layer(), &Tar::new().file("x", b"").end()]),
        ),
        Case::archive(
            "an image without layers",
            "the image has no layers",
            image(&[]),
            image(&[&layer()]),
        ),
        Case::archive(
            "fewer layers in the configuration",
            "differ in their layers",
            configured(|config| config["rootfs"]["diff_ids"] = json!([])),
            configured(|config| config["history"] = json!([])),
        ),
        Case::archive(
            "an image for another machine",
            "the archive has no image for linux/",
            said("pdp11"),
            said(&own),
        ),
        Case::archive(
            "an index that lies about the machine",
            "differ in the machine",
            lying.end(),
            said(&own),
        ),
    ]
}

/// An index whose list of manifests comes twice, as text: a value cannot have it.
fn doubled(twice: bool) -> Vec<u8> {
    let layout = Layout::of(&[Image::new(&[&layer()])]);
    let list = Value::from(layout.manifests.clone()).to_string();
    let first = if twice { "\"manifests\":[]," } else { "" };
    let index = format!("{{{first}\"schemaVersion\":2,\"manifests\":{list}}}");
    let mut tar = Tar::new().file("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#);
    for (name, bytes) in &layout.parts {
        tar = tar.file(name, bytes);
    }
    tar.file("index.json", index.as_bytes()).end()
}

/// What docker save writes, with other layers in its list.
fn named(layers: &[&str], more: impl FnOnce(Tar) -> Tar) -> Vec<u8> {
    let config = Image::new(&[&layer()]).config.to_string();
    let name = format!("{}.json", digest(config.as_bytes()).hex());
    let manifest = json!([{"Config": name, "RepoTags": ["a:1"], "Layers": layers}]);
    let tar = Tar::new()
        .file("layer.tar", &layer())
        .file(&name, config.as_bytes());
    more(tar)
        .file("manifest.json", manifest.to_string().as_bytes())
        .end()
}

fn saved() -> Vec<Case> {
    let id = "0".repeat(64);
    let inside = format!("{id}/layer.tar");
    let linked = |target: &str| named(&[&inside], |tar| tar.symlink(&inside, target));
    let good = || named(&["layer.tar"], |tar| tar);
    vec![
        Case::archive(
            "docker's manifest names the node's file",
            "`/etc/passwd`: it is named and not in the archive",
            named(&["/etc/passwd"], |tar| tar),
            named(&["/layer.tar"], |tar| tar),
        ),
        Case::archive(
            "docker's manifest names a file outside",
            "its path has a `..`",
            named(&["../../../etc/passwd"], |tar| tar),
            named(&["./layer.tar"], |tar| tar),
        ),
        Case::archive(
            "a part that is a link out",
            "it is named and not in the archive",
            linked("../../../etc/passwd"),
            linked("../layer.tar"),
        ),
        Case::archive(
            "a part that is a link to the node's file",
            "it is named and not in the archive",
            linked("/etc/passwd"),
            linked(".././layer.tar"),
        ),
        Case::archive(
            "a part that is a link to itself",
            "so on without end",
            linked("layer.tar"),
            good(),
        ),
    ]
}

/// Archives that two tools would read differently: one goes by the list, one by the index.
fn saved_anew() -> Vec<Case> {
    let other = Tar::new().file("a", b"another").end();
    let images = || {
        let mut second = Image::new(&[&other]);
        second.name = "other:1";
        [Image::new(&[&layer()]), second]
    };
    let name = |bytes: &[u8]| format!("blobs/sha256/{}", digest(bytes).hex());
    let (second, evil) = (
        name(images()[1].config.to_string().as_bytes()),
        name(&other),
    );
    let changed = |change: &dyn Fn(&mut Value)| newer_docker(&images(), |list| change(list));
    let one = |options: &mut images::ImportOptions| {
        options.reference = Some("example/thing:1".to_owned());
    };
    let differ = "`manifest.json`: it and index.json differ in the image";
    vec![
        Case::archive(
            "docker's list and the index name different images",
            differ,
            changed(&|list| list[0]["Config"] = json!(second)),
            changed(&|list| list[0]["Parent"] = json!("")),
        )
        .with(one),
        Case::archive(
            "docker's list names another layer than the index",
            differ,
            changed(&|list| list[0]["Layers"] = json!([evil])),
            changed(&|list| list[0]["Layers"] = json!([format!("./{}", name(&layer()))])),
        )
        .with(one),
        Case::archive(
            "docker's list names one layer more than the index",
            differ,
            changed(&|list| list[0]["Layers"] = json!([name(&layer()), evil])),
            changed(&|list| list[0]["LayerSources"] = json!(null)),
        )
        .with(one),
        Case::archive(
            "docker's list beside an index is none",
            "`manifest.json`: the document cannot be understood",
            changed(&|list| *list = json!([1])),
            changed(&|list| *list = json!({})),
        )
        .with(one),
    ]
}

fn parts() -> Vec<Case> {
    let id = "0".repeat(64);
    let good = || named(&["layer.tar"], |tar| tar);
    let wrong = |name: &str| {
        let config = Image::new(&[&layer()]).config.to_string();
        let manifest = json!([{"Config": name, "Layers": ["layer.tar"]}]);
        let tar = Tar::new()
            .file("layer.tar", &layer())
            .file(name, config.as_bytes());
        tar.file("manifest.json", manifest.to_string().as_bytes())
            .end()
    };
    let mut sparse = Tar::new().pax(&[("GNU.sparse.size", b"9000"), ("GNU.sparse.map", b"0,4")]);
    sparse = sparse.file("layer.tar", b"abcd");
    let config = Image::new(&[&layer()]).config.to_string();
    let manifest = json!([{"Config": "c", "Layers": ["layer.tar"]}]).to_string();
    let sparse = sparse
        .file("c", config.as_bytes())
        .file("manifest.json", manifest.as_bytes());
    vec![
        Case::archive(
            "docker's configuration is not what its name says",
            "its content has the digest",
            wrong(&format!("{id}.json")),
            wrong("config.json"),
        ),
        Case::archive(
            "docker's manifest with no image",
            "it names no image",
            manifest_only(b"[]"),
            good(),
        ),
        Case::archive(
            "docker's manifest that is none",
            "the document cannot be understood",
            manifest_only(b"[1]"),
            manifest_only(b"{}"),
        ),
        Case::archive(
            "a part with holes",
            "parts of an image have no holes",
            sparse.end(),
            good(),
        ),
        Case::archive(
            "a compressed layer with something behind it",
            "",
            docker(&[Image::compressed(&[(
                &[gzip(&layer()), b"evil".to_vec()].concat(),
                &layer(),
            )])]),
            docker(&[Image::compressed(&[(&gzip(&layer()), &layer())])]),
        ),
    ]
}

fn manifest_only(text: &[u8]) -> Vec<u8> {
    Tar::new().file("manifest.json", text).end()
}

fn settings() -> Vec<Case> {
    let set = |name: &str, value: Value| configured(|config| config["config"][name] = value);
    vec![
        Case::archive(
            "a variable with a zero byte",
            "the setting `env` has a zero byte",
            set("Env", json!(["A=good\0B=evil"])),
            set("Env", json!(["A=good\nB=odd"])),
        ),
        Case::archive(
            "a variable without a name",
            "the setting `env` has a variable without a proper name",
            set("Env", json!(["=evil"])),
            set("Env", json!(["a="])),
        ),
        Case::archive(
            "an entrypoint of 1 MB",
            "the list of all settings has more than 512 KiB",
            set("Entrypoint", json!(["x".repeat(1_000_000)])),
            set("Entrypoint", json!(["x".repeat(100_000)])),
        ),
        Case::archive(
            "a user with a second line",
            "the setting `user` is not one printable word",
            set("User", json!("nobody\nroot:x:0:0")),
            set("User", json!("nobody:nogroup")),
        ),
        Case::archive(
            "a working directory outside",
            "the setting `workdir` has a `..`",
            set("WorkingDir", json!("/work/../../..")),
            set("WorkingDir", json!("/work/...")),
        ),
        Case::archive(
            "a relative working directory",
            "the setting `workdir` is not an absolute path",
            set("WorkingDir", json!("work")),
            set("WorkingDir", json!("/work")),
        ),
        Case::archive(
            "a label with a zero byte",
            "the setting `labels` has a zero byte",
            set("Labels", json!({"a": "b\0"})),
            set("Labels", json!({"a": null})),
        ),
        Case::archive(
            "a signal of two words",
            "the setting `stop_signal` is not one printable word",
            set("StopSignal", json!("TERM KILL")),
            set("StopSignal", json!("SIGRTMIN+3")),
        ),
        Case::archive(
            "settings of the wrong kind",
            "the document cannot be understood",
            set("Cmd", json!({"sh": "-c"})),
            set("Cmd", json!(null)),
        ),
    ]
}
