//! Who goes first among sessions that wait.

use crate::site::{Site, eventually, site, text, told};

/// A session that has the whole node, so that whoever comes after it waits.
fn fill(site: &Site) -> String {
    let cpus = std::thread::available_parallelism().expect("a number");
    let cpus = cpus.get().to_string();
    run(site, "holds", &cpus, &[], "sleep 300");
    site.await_state("holds", "running");
    cpus
}

fn run(site: &Site, name: &str, cpus: &str, more: &[&str], script: &str) {
    let mut words = vec!["run", "-d", "--name", name, "--cpu", cpus];
    words.extend(more);
    words.extend(["--", "sh", "-c", script]);
    site.ok(&words);
}

/// Names in the order in which they began to run; all have ended, and one ran at a time.
fn order_of(site: &Site, mut names: Vec<&'static str>) -> Vec<&'static str> {
    for name in &names {
        site.await_state(name, "ended");
    }
    names.sort_by_key(|name| {
        let shown = site.json(&["show", name, "--json"]);
        let started = shown["started_at"].as_str().expect("it ran");
        started.parse::<jiff::Timestamp>().expect("a time")
    });
    names
}

/// Queues three sessions behind one that has the whole node; in which order do they run?
fn order_of_three(
    site: &Site,
    priorities: [&[&str]; 3],
    change: impl FnOnce(),
) -> Vec<&'static str> {
    let names = ["one", "two", "three"];
    let cpus = fill(site);
    for (name, priority) in names.into_iter().zip(priorities) {
        run(site, name, &cpus, priority, "exit 0");
    }
    change();
    site.ok(&["stop", "holds"]);
    order_of(site, names.to_vec())
}

#[test]
fn the_highest_priority_goes_first() {
    let Some(site) = site() else { return };
    let priorities: [&[&str]; 3] = [
        &["--priority", "10"],
        &["--priority", "50"],
        &["--priority", "90"],
    ];
    let look = || {
        let why = site.ok(&["why", "one"]);
        let ahead =
            "2 of a higher priority than 10 wait too, and go first where they fit: three, two";
        assert!(why.contains(ahead), "{why}");
        let more = "try: `insula priority one 90` lets it go before them, once there is room";
        assert!(why.contains(more), "{why}");
        assert!(why.contains("holds has"), "the reason is the fit: {why}");
        let why = site.ok(&["why", "two"]);
        let more = "try: `insula priority two 90` lets it go before three, once there is room";
        assert!(why.contains(more), "{why}");
        // Nobody goes before the highest.
        let why = site.ok(&["why", "three"]);
        assert!(!why.contains("priority"), "{why}");
        let listed = site.json(&["ls", "--json"]);
        let sessions = listed["sessions"].as_array().expect("a list");
        let of = |name: &str| {
            let mut sessions = sessions.iter();
            let found = sessions.find(|one| one["name"] == name);
            found.expect("it is listed")["priority"].clone()
        };
        assert_eq!(["one", "two", "three", "holds"].map(of), [10, 50, 90, 50]);
        let shown = site.ok(&["show", "three"]);
        assert!(shown.contains("priority      90"), "{shown}");
        let shown = site.ok(&["show", "two"]);
        assert!(!shown.contains("priority"), "it is the usual one: {shown}");
    };
    let order = order_of_three(&site, priorities, look);
    assert_eq!(order, ["three", "two", "one"]);
}

/// The control, and what a change makes of it.
#[test]
fn without_priorities_the_oldest_goes_first_until_they_are_changed() {
    let Some(site) = site() else { return };
    let order = order_of_three(&site, [&[]; 3], || ());
    assert_eq!(order, ["one", "two", "three"]);
    site.ok(&["rm", "one", "two", "three", "holds"]);
    eventually("they are gone", || site.members().is_empty());
    let change = || {
        let said = site.ok(&["priority", "three", "51"]);
        assert_eq!(said, "three: priority 51\n");
        site.ok(&["priority", "two", "100"]);
        let why = site.ok(&["why", "one"]);
        assert!(why.contains("2 of a higher priority than 50"), "{why}");
        let enough = "`insula priority one 100` lets it go before them";
        assert!(why.contains(enough), "it is the older one: {why}");
        let why = site.ok(&["why", "three"]);
        let ahead = "1 of a higher priority than 51 waits too, and goes first where it fits: two";
        assert!(why.contains(ahead), "{why}");
        assert!(!why.contains("try:"), "nothing is higher than 100: {why}");
    };
    let order = order_of_three(&site, [&[]; 3], change);
    assert_eq!(order, ["two", "three", "one"]);
    let refused = site.insula(&["priority", "three", "52"]);
    assert!(
        text(&refused.stderr).contains("has ended"),
        "{}",
        told(&refused)
    );
}

/// An array has one priority, which its elements have from it.
#[test]
fn an_array_goes_first_as_a_whole() {
    let Some(site) = site() else { return };
    let cpus = fill(&site);
    run(&site, "older", &cpus, &[], "exit 0");
    let array = ["--array", "1-2", "--priority", "60"];
    run(&site, "many", &cpus, &array, "exit 0");
    let shown = site.json(&["show", "many", "--json"]);
    assert_eq!(shown["array"]["priority"], 60);
    let refused = site.insula(&["priority", "many.1", "70"]);
    let said = text(&refused.stderr);
    assert!(said.contains("has its priority from it"), "{said}");
    assert!(said.contains("`insula priority many NUMBER`"), "{said}");
    let given = site.json(&["priority", "many", "70", "--json"]);
    assert_eq!(given["priority"], 70);
    assert_eq!(site.json(&["show", "many.2", "--json"])["priority"], 70);
    let why = site.ok(&["why", "older"]);
    assert!(
        why.contains("go first where they fit: many.1, many.2"),
        "{why}"
    );
    site.ok(&["stop", "holds"]);
    let order = order_of(&site, vec!["older", "many.1", "many.2"]);
    assert_eq!(order, ["many.1", "many.2", "older"]);
}
