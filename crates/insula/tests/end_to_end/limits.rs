//! A session that takes too much hurts only itself, and says so.

use crate::site::{Site, site, text, told};
use crate::streams::await_output;

/// A session that nothing is to happen to.
fn start_neighbour(site: &Site) {
    let mut run = vec!["run", "-d", "--name", "neighbour"];
    run.extend(["--cpu", "0.1", "--memory", "64m"]);
    run.extend(["--", "sh", "-c", "echo up; sleep 300"]);
    site.ok(&run);
    await_output(site, "neighbour", "up");
}

#[test]
fn out_of_memory_ends_its_own_session_and_says_so() {
    let Some(site) = site() else { return };
    start_neighbour(&site);
    let hog = "x = []\nwhile True: x.append(bytearray(1 << 20))";
    let output = site.insula(&[
        "run", "--name", "hog", "--cpu", "0.5", "--memory", "100m", "--", "python3", "-c", hog,
    ]);
    assert_eq!(output.status.code(), Some(137), "{}", told(&output));
    let said = text(&output.stderr);
    assert!(
        said.contains("out of memory") && said.contains("100 MiB"),
        "{said}"
    );
    let why = site.ok(&["why", "hog"]);
    assert!(
        why.contains("out of memory") && why.contains("100 MiB"),
        "{why}"
    );
    // The control: the same program with enough memory goes on until its time is up.
    let bounded = "x = [bytearray(1 << 20) for _ in range(150)]; print(len(x))";
    let output = site.insula(&[
        "run", "--cpu", "0.5", "--memory", "400m", "--", "python3", "-c", bounded,
    ]);
    assert_eq!(text(&output.stdout), "150\n", "{}", told(&output));
    assert_eq!(site.state("neighbour"), "running");
}

#[test]
fn a_fork_bomb_meets_its_limit() {
    let Some(site) = site() else { return };
    start_neighbour(&site);
    let bomb = "import os, time\n\
        children = 0\n\
        while True:\n\
        \ttry:\n\
        \t\tif os.fork() == 0: time.sleep(300)\n\
        \t\tchildren += 1\n\
        \texcept OSError as error:\n\
        \t\tprint('stopped by', error.strerror, 'after', children)\n\
        \t\tbreak\n";
    let output = site.insula(&[
        "run", "--cpu", "1", "--memory", "1g", "--pids", "200", "--", "python3", "-c", bomb,
    ]);
    let said = text(&output.stdout);
    assert!(
        output.status.success() && said.contains("Resource temporarily unavailable"),
        "{}",
        told(&output)
    );
    let children: u32 = said
        .trim()
        .rsplit(' ')
        .next()
        .and_then(|n| n.parse().ok())
        .expect(&said);
    assert!((150..200).contains(&children), "{said}");
    assert_eq!(site.state("neighbour"), "running");
}

#[test]
fn a_full_tmp_says_no_space() {
    let Some(site) = site() else { return };
    let fill = "dd if=/dev/zero of=/tmp/fill bs=1M; echo $?; df /tmp | tail -1; echo on with it";
    let output = site.insula(&[
        "run", "--cpu", "0.5", "--memory", "128m", "--", "sh", "-c", fill,
    ]);
    assert!(
        text(&output.stderr).contains("No space left on device"),
        "{}",
        told(&output)
    );
    assert!(
        text(&output.stdout).contains("on with it"),
        "{}",
        told(&output)
    );
}

#[test]
fn an_endless_log_keeps_its_newest_part() {
    let Some(site) = site() else { return };
    // 300 MB with nobody listening: more than the ring of 256 MiB holds.
    let writer = "import sys\nline = b'x' * 999 + b'\\n'\nfor i in range(300000): sys.stdout.buffer.write(line)\nprint('the end')";
    site.ok(&[
        "run", "-d", "--name", "talker", "--cpu", "1", "--memory", "256m", "--", "python3", "-c",
        writer,
    ]);
    site.await_state("talker", "ended");
    let kept: u64 = site
        .members()
        .iter()
        .flat_map(|member| crate::site::entries(&member.join("logs")))
        .map(|path| std::fs::metadata(path).expect("a segment").len())
        .sum();
    assert!(kept <= (256 + 8) << 20, "{kept} bytes are kept");
    // The control: a plain file keeps all of it.
    let plain = site.work().join("plain");
    let file = std::fs::File::create(&plain).expect("made");
    let mut python = process::command("/usr/bin/python3");
    let status = python.args(["-c", writer]).stdout(file).status();
    assert!(status.expect("python3 runs").success());
    let all = std::fs::metadata(&plain).expect("there").len();
    std::fs::remove_file(&plain).expect("removed");
    assert!(all > 300_000_000, "{all} bytes");
    let output = site.insula(&["logs", "talker"]);
    assert!(text(&output.stdout).ends_with("the end\n"));
    assert!(
        text(&output.stderr).contains("dropped"),
        "{}",
        text(&output.stderr)
    );
}
