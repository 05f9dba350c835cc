//! What Docker itself saves, and what its newer versions do, imported and run.

use crate::image_sources::{docker_saved, layout, run};
use crate::site::{finish, site, text, told};
use serde_json::{Value, json};
use std::fs;

/// A real daemon of Debian's version made these two images, with layers that remove and replace.
#[test]
fn what_docker_saved_runs() {
    let Some(site) = site() else { return };
    let saved = docker_saved();
    let several = site.insula(&["image", "import", saved.to_str().expect("text")]);
    assert_eq!(several.status.code(), Some(1));
    let said = text(&several.stderr);
    assert!(said.contains("base:1") && said.contains("made:1"), "{said}");
    let file = fs::File::open(&saved).expect("an archive");
    let mut import = site.command(&["image", "import", "-", "--reference", "made:1", "--json"]);
    let output = finish(import.stdin(file).spawn().expect("started"));
    assert!(output.status.success(), "{}", told(&output));
    let view: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(
        (&view["form"], &view["name"]),
        (&"docker save".into(), &"made:1".into())
    );
    assert_eq!(view["image"]["settings"]["labels"]["made"], "here");
    let run = ["run", "--image", "made:1"];
    // Its entrypoint and command, as its user, in its directory, with its variables.
    let own = site.ok(&run);
    assert_eq!(own, "5\n6\n/d\nb\n");
    let looked = "ls /d /d/e /replaced; cat /d/e/two /replaced/new /copied; id -G";
    assert_eq!(
        site.ok(&[&run[..], &["--", looked]].concat()),
        "/d:\ne\n\n/d/e:\ntwo\n\n/replaced:\nnew\ntwo\nnew\ncopied\n6\n"
    );
    // What the image gave to its user is its user's, and nothing else is.
    let writes = "touch /d/e/mine && stat -c %u:%g /d/e/mine; touch /d/x 2>/dev/null || echo no";
    assert_eq!(site.ok(&[&run[..], &["--", writes]].concat()), "5:6\nno\n");
    let base = ["image", "import", saved.to_str().expect("text")];
    site.ok(&[&base[..], &["--reference", "base:1", "--name", "base"]].concat());
    let command = ["run", "--image", "base", "--", "id", "-u"];
    assert_eq!(site.ok(&command), "1000\n");
    // Layers that both have are stored once, and stay until nobody needs them.
    site.ok(&["image", "rm", "base"]);
    assert_eq!(site.ok(&run), own);
}

/// Docker from version 25 on: an OCI layout with docker's list beside it.
#[test]
fn what_newer_versions_of_docker_save_runs() {
    let Some(site) = site() else { return };
    let work = site.work();
    layout(&work);
    let read = |path: &str| -> Value {
        let bytes = fs::read(work.join("layout").join(path)).expect("a document");
        serde_json::from_slice(&bytes).expect("JSON")
    };
    let blob = |descriptor: &Value| {
        let digest = descriptor["digest"].as_str().expect("a digest");
        format!("blobs/{}", digest.replace(':', "/"))
    };
    let mut index = read("index.json");
    let manifest = read(&blob(&index["manifests"][0]));
    let layers = manifest["layers"].as_array().expect("layers");
    let layers: Vec<String> = layers.iter().map(blob).collect();
    index["manifests"][0]["annotations"] = json!({
        "io.containerd.image.name": "docker.io/team/thing:2.1",
        "org.opencontainers.image.ref.name": "2.1",
    });
    let mut list = json!([{
        "Config": blob(&manifest["config"]),
        "RepoTags": ["team/thing:2.1"],
        "Layers": layers,
        "LayerSources": {},
    }]);
    let save = |index: &Value, list: &Value, name: &str| {
        let write = |file: &str, value: &Value| {
            fs::write(work.join("layout").join(file), value.to_string()).expect("written");
        };
        write("index.json", index);
        write("manifest.json", list);
        write("repositories", &json!({}));
        run("tar", &["-C", "layout", "-cf", name, "."], &work);
    };
    save(&index, &list, "newer.tar");
    let view = site.json(&["image", "import", "newer.tar", "--json"]);
    assert_eq!(
        (&view["form"], &view["name"]),
        (&"docker save".into(), &"team/thing:2.1".into())
    );
    let own = "new\n33\n/data\nhello\n";
    let run = ["run", "--image", "team/thing:2.1"];
    assert_eq!(site.ok(&run), own);
    // Where list and index differ, two tools would run different things.
    list[0]["Layers"].as_array_mut().expect("a list").pop();
    save(&index, &list, "evil.tar");
    let output = site.insula(&["image", "import", "evil.tar", "--name", "evil"]);
    assert_eq!(output.status.code(), Some(1));
    let said = text(&output.stderr);
    assert!(said.contains("differ in the image"), "{said}");
}
