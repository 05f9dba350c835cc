//! Files go along and come back.

use crate::site::{entries, site, text, told};
use crate::streams::await_output;
use std::fs;
use std::path::Path;

#[test]
fn a_scripts_directory_goes_along_and_what_it_wrote_comes_back() {
    let Some(site) = site() else { return };
    let work = site.work();
    fs::write(work.join("input.txt"), "21").expect("written");
    fs::write(work.join(".insulaignore"), "secret.txt\n").expect("written");
    fs::write(work.join("secret.txt"), "not for the session").expect("written");
    let script = "import os\n\
        number = int(open('input.txt').read())\n\
        os.makedirs('out/deep', exist_ok=True)\n\
        open('out/deep/answer.txt', 'w').write(str(number * 2))\n\
        print(sorted(os.listdir('.')))\n";
    fs::write(work.join("double.py"), script).expect("written");
    let output = site.insula(&["run", "double.py"]);
    assert!(output.status.success(), "{}", told(&output));
    assert_eq!(
        text(&output.stdout),
        "['.insulaignore', 'double.py', 'input.txt', 'out']\n"
    );
    assert_eq!(
        fs::read_to_string(work.join("out/deep/answer.txt")).expect("it came back"),
        "42"
    );
    assert!(work.join("secret.txt").exists());
}

#[test]
fn a_file_that_changed_meanwhile_is_never_overwritten() {
    let Some(site) = site() else { return };
    let work = site.work();
    fs::write(work.join("notes.txt"), "before").expect("written");
    fs::write(
        work.join("slow.sh"),
        "echo 'from the session' > notes.txt\necho ready\nwhile [ ! -e /tmp/go ]; do sleep 0.05; n=$((n+1)); [ $n -gt 40 ] && break; done\n",
    )
    .expect("written");
    let child = site
        .command(&["run", "--name", "slow", "slow.sh"])
        .spawn()
        .expect("started");
    await_output(&site, "slow", "ready");
    fs::write(work.join("notes.txt"), "changed by a person").expect("written");
    let output = crate::site::finish(child);
    assert!(output.status.success(), "{}", told(&output));
    let kept = fs::read_to_string(work.join("notes.txt")).expect("still there");
    assert_eq!(kept, "changed by a person");
    let beside: Vec<_> = entries(&work)
        .into_iter()
        .filter(|path| path.to_string_lossy().contains("notes.txt.insula-"))
        .collect();
    assert_eq!(beside.len(), 1, "{beside:?}");
    assert_eq!(
        fs::read_to_string(&beside[0]).expect("written"),
        "from the session\n"
    );
    assert!(
        text(&output.stderr).contains("notes.txt"),
        "it says so: {}",
        told(&output)
    );
}

#[test]
fn files_are_fetched_while_a_session_runs_and_after() {
    let Some(site) = site() else { return };
    let program = "mkdir -p results; echo one > results/a.txt; echo ready; sleep 300";
    site.ok(&["run", "-d", "--name", "writer", "--", "sh", "-c", program]);
    await_output(&site, "writer", "ready");
    site.ok(&["download", "writer", "results", "--to", "first"]);
    assert_eq!(read_any(&site.work().join("first"), "a.txt"), "one\n");
    site.ok(&["stop", "writer"]);
    site.await_state("writer", "ended");
    site.ok(&["download", "writer", "--to", "second"]);
    assert_eq!(read_any(&site.work().join("second"), "a.txt"), "one\n");
}

/// The content of the one file of this name beneath a directory.
fn read_any(directory: &Path, name: &str) -> String {
    let direct = directory.join(name);
    let nested = directory.join("results").join(name);
    fs::read_to_string(if direct.exists() { direct } else { nested }).expect("it came")
}

#[test]
fn a_mounted_directory_belongs_to_its_user() {
    let Some(site) = site() else { return };
    let data = site.work().join("data");
    fs::create_dir(&data).expect("made");
    fs::write(data.join("in.txt"), "hello").expect("written");
    let mount = format!("{}:/data", data.display());
    let program = "cat /data/in.txt; echo new > /data/out.txt; stat -c %U /data/in.txt";
    let output = site.insula(&["run", "--mount", &mount, "--", "sh", "-c", program]);
    assert!(
        text(&output.stdout).starts_with("hello"),
        "{}",
        told(&output)
    );
    let owner =
        std::os::unix::fs::MetadataExt::uid(&fs::metadata(data.join("out.txt")).expect("made"));
    assert_eq!(
        owner,
        rustix::process::geteuid().as_raw(),
        "new files are the caller's"
    );

    let mount = format!("{}:/data:ro", data.display());
    let output = site.insula(&[
        "run",
        "--mount",
        &mount,
        "--",
        "sh",
        "-c",
        "echo no > /data/no.txt",
    ]);
    assert!(!output.status.success());
    assert!(!data.join("no.txt").exists());
}

#[test]
fn the_iris_example_works() {
    let Some(site) = site() else { return };
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/iris");
    let to = site.work().join("iris");
    fs::create_dir(&to).expect("made");
    for path in entries(&from).into_iter().filter(|path| path.is_file()) {
        fs::copy(&path, to.join(path.file_name().expect("a name"))).expect("copied");
    }
    let output = site.insula(&["run", "iris/train.py"]);
    assert!(output.status.success(), "{}", told(&output));
    let report = fs::read_to_string(to.join("out/report.html")).expect("the report came back");
    assert!(report.contains("<svg") && report.contains("</svg>"));
    let model = fs::read_to_string(to.join("out/model.json")).expect("the model came back");
    serde_json::from_str::<serde_json::Value>(&model).expect("JSON");
}

#[test]
fn nothing_that_the_users_programs_run_by_themselves_comes_back() {
    let Some(site) = site() else { return };
    let work = site.work();
    fs::create_dir_all(work.join(".git/hooks")).expect("made");
    fs::write(work.join(".git/HEAD"), "ref: refs/heads/main").expect("written");
    let program = "mkdir -p .git sub/.GIT; echo code > .git/config; echo code > sub/.GIT/config\n\
        echo fine > result.txt\n";
    fs::write(work.join("job.sh"), program).expect("written");
    let output = site.insula(&["run", "--name", "job", "job.sh"]);
    assert!(output.status.success(), "{}", told(&output));
    let said = text(&output.stderr);
    assert!(said.contains("version control"), "{}", told(&output));
    site.ok(&["download", "job", "--to", "elsewhere"]);
    for taken in [
        ".git/config",
        "sub/.GIT",
        "elsewhere/.git",
        "elsewhere/sub/.GIT",
    ] {
        assert!(!work.join(taken).exists(), "{taken} came back");
    }
    assert!(work.join("result.txt").exists() && work.join("elsewhere/result.txt").exists());
}

#[test]
fn the_sites_home_stays_out_of_uploads_and_returns() {
    let Some(site) = site() else { return };
    let home = site.work().join("state");
    fs::write(
        site.work().join("look.sh"),
        "ls; mkdir -p state; echo new > state/planted.txt\n",
    )
    .expect("written");
    let here = |arguments: &[&str]| {
        let mut command = site.command(arguments);
        command.env("INSULA_HOME", &home);
        crate::site::finish(command.spawn().expect("started"))
    };
    let output = here(&["run", "look.sh"]);
    let down = here(&["down", "--stop"]);
    assert!(down.status.success(), "{}", told(&down));
    assert!(output.status.success(), "{}", told(&output));
    assert_eq!(text(&output.stdout), "look.sh\n");
    assert!(!home.join("planted.txt").exists());
    assert!(
        text(&output.stderr).contains("the site itself"),
        "{}",
        told(&output)
    );
}

#[test]
fn a_large_file_stays_in_the_session_and_is_named() {
    let Some(site) = site() else { return };
    let program = "truncate -s 300M large.bin; echo small > small.txt\n";
    fs::write(site.work().join("job.sh"), program).expect("written");
    let output = site.insula(&["run", "--name", "job", "job.sh"]);
    assert!(output.status.success(), "{}", told(&output));
    assert!(site.work().join("small.txt").exists());
    assert!(!site.work().join("large.bin").exists());
    let said = text(&output.stderr);
    assert!(
        said.contains("`insula download job large.bin`"),
        "{}",
        told(&output)
    );
    site.ok(&["download", "job", "large.bin"]);
    let metadata = fs::metadata(site.work().join("large.bin")).expect("it came");
    assert_eq!(metadata.len(), 300 << 20);
    let blocks = std::os::unix::fs::MetadataExt::blocks(&metadata);
    assert!(blocks * 512 < 1 << 20, "{blocks} blocks");
}

#[test]
fn what_is_named_goes_along_where_a_scripts_directory_would_be_refused() {
    let Some(site) = site() else { return };
    let work = site.work();
    let data = work.join("data");
    fs::create_dir_all(data.join("many")).expect("made");
    let large = fs::File::create(data.join("large.bin")).expect("made");
    large.set_len(300 << 20).expect("grown");
    for number in 0..10_001 {
        fs::File::create(data.join("many").join(number.to_string())).expect("made");
    }
    let script = "ls many | wc -l; wc -c < large.bin\n";
    fs::write(data.join("count.sh"), script).expect("written");
    let unasked = site.insula(&["run", "data/count.sh"]);
    assert_eq!(unasked.status.code(), Some(125), "{}", told(&unasked));
    let said = text(&unasked.stderr);
    assert!(said.contains("more than 10000"), "{said}");
    assert!(said.contains("--upload"), "{said}");
    let expected = format!("10001\n{}\n", 300 << 20);
    let named = ["run", "--no-download", "--upload", "data"];
    let by_script = site.ok(&[&named[..], &["data/count.sh"]].concat());
    assert_eq!(by_script, expected);
    let alone = [
        "run",
        "--upload",
        "data/large.bin",
        "--",
        "wc",
        "-c",
        "large.bin",
    ];
    assert_eq!(site.ok(&alone), format!("{} large.bin\n", 300 << 20));
}

#[test]
fn an_interrupt_while_files_come_back_ends_that_and_leaves_nothing_half() {
    let Some(site) = site() else { return };
    for (number, code) in [(2, 130), (15, 143), (1, 129)] {
        let name = format!("job-{code}");
        let directory = site.work().join(&name);
        fs::create_dir(&directory).expect("made");
        // Many files, so that some have come and others have not.
        let program = "import os\n\
            for number in range(190):\n    \
            open(f'{number:03}.bin', 'wb').write(os.urandom(1000000))\n";
        fs::write(directory.join("job.py"), program).expect("written");
        let script = format!("{name}/job.py");
        let child = site.command(&["run", "--name", &name, &script]).spawn();
        let child = child.expect("started");
        crate::site::eventually("the first file has come", || {
            directory.join("000.bin").exists()
        });
        crate::site::signal(child.id() as i32, number);
        let output = crate::site::finish(child);
        assert_eq!(output.status.code(), Some(code), "{}", told(&output));
        let said = text(&output.stderr);
        assert!(
            said.contains(&format!("`insula download {name}`")),
            "{said}"
        );
        for path in entries(&directory) {
            let name = path.file_name().expect("a name").to_string_lossy();
            assert!(!name.starts_with(".insula-"), "{name} is left");
            let size = fs::metadata(&path).expect("there").len();
            assert!(name == "job.py" || size == 1_000_000, "{name}: {size}");
        }
    }
}

#[test]
fn names_of_files_are_shown_and_not_obeyed() {
    let Some(site) = site() else { return };
    let program = "import os\n\
        os.makedirs(b'd/.git')\n\
        open(b'caf\\xe9.txt', 'w').write('x')\n\
        open('a\\x1b[2Jb', 'w').write('x')\n";
    fs::write(site.work().join("job.py"), program).expect("written");
    let output = site.insula(&["-v", "run", "--name", "job", "job.py"]);
    assert!(output.status.success(), "{}", told(&output));
    assert!(
        !text(&output.stderr).contains("\x1b[2J"),
        "{}",
        told(&output)
    );
    let told = site.json(&["download", "job", "--to", "out", "--json"]);
    let written = told["written"].as_array().expect("names");
    assert!(written.iter().any(|name| name == "caf\u{fffd}.txt"));
}
