//! What the images of the tests are made from, by the tools that people make theirs with.

use crate::site::{text, told};
use std::fs;
use std::path::{Path, PathBuf};

/// Where Debian's system is kept between runs: making it takes half a minute and the network.
const CACHE: &str = concat!(env!("CARGO_TARGET_TMPDIR"), "/images");

/// Runs a program of this machine, which has to succeed.
pub(crate) fn run(program: &str, arguments: &[&str], directory: &Path) -> String {
    let output = process::command(program)
        .args(arguments)
        .current_dir(directory)
        .output()
        .unwrap_or_else(|error| {
            panic!("{program} is missing, and `cargo xtask ci` installs it: {error}")
        });
    assert!(output.status.success(), "{program}: {}", told(&output));
    text(&output.stdout)
}

/// A system of a single static program with many names.
pub(crate) fn busybox(root: &Path) {
    for directory in ["bin", "etc", "tmp", "data"] {
        fs::create_dir_all(root.join(directory)).expect("made");
    }
    let program = root.join("bin/busybox");
    fs::copy("/bin/busybox", &program).expect("busybox-static, which `cargo xtask ci` installs");
    for name in run(program.to_str().expect("text"), &["--list"], root).lines() {
        // One of them is its own.
        let _ = std::os::unix::fs::symlink("busybox", root.join("bin").join(name));
    }
    fs::write(
        root.join("etc/passwd"),
        "root:x:0:0::/root:/bin/sh\nann:x:33:34::/data:/bin/sh\n",
    )
    .expect("written");
    fs::write(
        root.join("etc/group"),
        "root:x:0:\nann:x:34:\nstaff:x:50:ann\n",
    )
    .expect("written");
    let data = root.join("data");
    std::os::unix::fs::chown(data, Some(33), Some(34)).expect("given to ann");
}

/// Debian 12 with python3, as mmdebstrap makes it.
pub(crate) fn debian() -> PathBuf {
    let cache = Path::new(CACHE);
    fs::create_dir_all(cache).expect("made");
    let path = cache.join("debian.tar");
    if !path.exists() {
        let new = cache.join(format!("new-{}.tar", std::process::id()));
        let name = new.to_str().expect("text");
        let arguments = ["--variant=minbase", "--include=python3", "bookworm", name];
        run("mmdebstrap", &arguments, cache);
        fs::rename(&new, &path).expect("named");
    }
    path
}

/// An OCI layout of two layers by umoci: the upper one removes a file, replaces a directory and
/// adds a file.
pub(crate) fn layout(directory: &Path) {
    let run = |arguments: &[&str]| run("umoci", arguments, directory);
    run(&["init", "--layout", "layout"]);
    run(&["new", "--image", "layout:made"]);
    for (bundle, change) in [("one", lower as fn(&Path)), ("two", upper)] {
        run(&["unpack", "--image", "layout:made", bundle]);
        change(&directory.join(bundle).join("rootfs"));
        run(&["repack", "--image", "layout:made", bundle]);
    }
    let config = ["config", "--image", "layout:made"];
    let settings = [
        "--config.entrypoint=/bin/sh",
        "--config.entrypoint=-c",
        "--config.cmd=cat /data/new; id -u; pwd; echo $GREETING",
        "--config.env=GREETING=hello",
        "--config.env=PATH=/bin",
        "--config.user=ann",
        "--config.workingdir=/data",
    ];
    run(&[&config[..], &settings].concat());
}

fn lower(root: &Path) {
    busybox(root);
    for (path, content) in [
        ("data/old", "old\n"),
        ("data/kept", "kept\n"),
        ("swept/old", "x"),
    ] {
        fs::create_dir_all(root.join(path).parent().expect("a parent")).expect("made");
        fs::write(root.join(path), content).expect("written");
    }
}

fn upper(root: &Path) {
    fs::remove_file(root.join("data/old")).expect("removed");
    fs::remove_dir_all(root.join("swept")).expect("removed");
    fs::create_dir(root.join("swept")).expect("made");
    fs::write(root.join("swept/new"), "swept\n").expect("written");
    fs::write(root.join("data/new"), "new\n").expect("written");
    // umoci leaves a directory out whose time is the same to the second. Then nothing in the layer
    // tells whose it is, and it is root's, as it is for Docker.
    run("touch", &["-d", "2001-02-03", "data"], root);
}

/// Everything that Docker does, in name spaces that end with it: no mount or process outlives it.
/// $1 is the directory, $2 the name of its control groups.
const DOCKER: &str = r#"set -e
cd "$1"
dockerd --data-root "$1/data" --exec-root "$1/exec" --pidfile "$1/pid" -H "unix://$1/socket" \
    --cgroup-parent "/$2" --bridge=none --iptables=false --ip-forward=false >log 2>&1 &
daemon=$!
export DOCKER_HOST="unix://$1/socket" DOCKER_CONFIG="$1" DOCKER_BUILDKIT=0
until docker version >/dev/null 2>&1; do
    kill -0 $daemon 2>/dev/null || { cat log >&2; exit 1; }
done
tar -C base -c . | docker import -c 'CMD ["/bin/sh"]' - base:1 >/dev/null
docker build -q --network none -t made:1 . >/dev/null
docker save -o saved.tar base:1 made:1
kill $daemon
wait $daemon || true
"#;

const DOCKERFILE: &str = r#"FROM base:1
RUN mkdir -p /d/e /replaced/old && echo one > /d/one && echo two > /d/e/two && chown -R 5:6 /d/e
RUN rm /d/one && rm -r /replaced && mkdir /replaced && echo new > /replaced/new
COPY copied /copied
ENV A=b PATH=/bin
USER 5:6
WORKDIR /d
LABEL made=here
ENTRYPOINT ["/bin/sh", "-c"]
CMD ["id -u; id -g; pwd; echo $A"]
"#;

/// Removes the control groups that Docker made, also when the test fails.
struct ControlGroups(String);

impl Drop for ControlGroups {
    fn drop(&mut self) {
        let list = fs::read_dir("/sys/fs/cgroup").into_iter().flatten();
        let places = list.flatten().map(|entry| entry.path());
        for place in places.chain(["/sys/fs/cgroup".into()]) {
            // Where there is none, or somebody is still in it, there is nothing to be done.
            let _ = fs::remove_dir(place.join(&self.0));
        }
    }
}

/// An archive of the images `base:1` and `made:1`, which Docker built and saved.
pub(crate) fn docker_saved() -> PathBuf {
    let cache = Path::new(CACHE);
    fs::create_dir_all(cache).expect("made");
    // Of another build file it is another one.
    let path = cache.join(format!("docker-{}.tar", DOCKERFILE.len()));
    if path.exists() {
        return path;
    }
    let made = tempfile::tempdir().expect("a directory");
    let groups = ControlGroups(format!("end-to-end-docker-{}", std::process::id()));
    fs::create_dir(made.path().join("base")).expect("made");
    busybox(&made.path().join("base"));
    fs::write(made.path().join("Dockerfile"), DOCKERFILE).expect("written");
    fs::write(made.path().join("copied"), "copied\n").expect("written");
    fs::write(made.path().join(".dockerignore"), "*\n!copied\n").expect("written");
    let directory = made.path().to_str().expect("text");
    let words = [
        "--mount",
        "--propagation=private",
        "--pid",
        "--mount-proc",
        "--kill-child",
        "--fork",
        "sh",
        "-c",
        DOCKER,
        "sh",
        directory,
        &groups.0,
    ];
    run("unshare", &words, made.path());
    let new = cache.join(format!("new-docker-{}.tar", std::process::id()));
    fs::copy(made.path().join("saved.tar"), &new).expect("copied");
    fs::rename(&new, &path).expect("named");
    path
}
