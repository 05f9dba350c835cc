//! Every point at which a process is killed, what it is doing then, and who it is.

/// Which process comes to a point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Who {
    Daemon,
    Launcher,
}

/// What goes on when a process is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scene {
    /// A session with files is asked for, with a disk and a network of its own.
    Begin,
    /// One is asked for on an image that the node does not have yet.
    BeginOnImage,
    /// The command of a session ends by itself.
    End,
    /// A user stops a session.
    Stop,
    /// A user removes one that has ended.
    Remove,
    /// An image is imported.
    Import,
    /// An image is removed that the node has unpacked.
    RemoveImage,
    /// A daemon starts on an empty home.
    FirstStart,
    /// A daemon starts on a home with sessions.
    NextStart,
    /// Ended sessions are older than they are kept.
    Retention,
}

/// One point in one scene: a row of the table.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Point {
    /// Of the twelve kinds of effects.
    pub(crate) kind: &'static str,
    /// As the sources name it.
    pub(crate) name: &'static str,
    /// Which passing of it.
    pub(crate) passing: u32,
    pub(crate) who: Who,
    pub(crate) scene: Scene,
}

const fn at(kind: &'static str, name: &'static str, scene: Scene) -> Point {
    Point {
        kind,
        name,
        passing: 1,
        who: Who::Daemon,
        scene,
    }
}

const fn nth(kind: &'static str, name: &'static str, passing: u32, scene: Scene) -> Point {
    Point {
        passing,
        ..at(kind, name, scene)
    }
}

const fn launcher(kind: &'static str, name: &'static str) -> Point {
    Point {
        who: Who::Launcher,
        ..at(kind, name, Scene::Begin)
    }
}

/// All of them, in the order in which a session comes to them.
pub(crate) const POINTS: &[Point] = &[
    at("migrate", "migrate.applied", Scene::FirstStart),
    nth("migrate", "migrate.applied", 4, Scene::FirstStart),
    at("migrate", "migrate.committed", Scene::FirstStart),
    nth("migrate", "migrate.committed", 7, Scene::FirstStart),
    at("migrate", "migrate.site-made", Scene::FirstStart),
    at("migrate", "commit.decided", Scene::FirstStart),
    at("migrate", "commit.made", Scene::FirstStart),
    at("migrate", "commit.unmarked", Scene::NextStart),
    at("migrate", "commit.made", Scene::NextStart),
    at("upload", "upload.written", Scene::Begin),
    at("upload", "upload.named", Scene::Begin),
    at("upload", "upload.staged", Scene::Begin),
    at("upload", "upload.forgotten", Scene::End),
    at("create", "commit.decided", Scene::Begin),
    at("create", "commit.made", Scene::Begin),
    at("create", "commit.unmarked", Scene::Begin),
    at("create", "commit.shown", Scene::Begin),
    nth("place", "commit.made", 2, Scene::Begin),
    at("place", "place.told", Scene::Begin),
    at("place", "place.obeyed", Scene::Begin),
    at("place", "place.directory-filled", Scene::Begin),
    at("place", "place.directory-named", Scene::Begin),
    at("place", "place.directory-made", Scene::Begin),
    at("prepare", "prepare.unpacked", Scene::Begin),
    at("prepare", "prepare.listed", Scene::Begin),
    at("prepare", "prepare.marked", Scene::Begin),
    at("prepare", "prepare.layer-unpacked", Scene::BeginOnImage),
    at("prepare", "prepare.layer-named", Scene::BeginOnImage),
    at("clone", "clone.marked", Scene::Begin),
    at("clone", "clone.directory-given", Scene::Begin),
    at("clone", "clone.groups-made", Scene::Begin),
    at("clone", "clone.asked", Scene::Begin),
    launcher("clone", "clone.prepared"),
    launcher("clone", "clone.cloned"),
    launcher("clone", "clone.served"),
    launcher("clone", "clone.let-go-on"),
    launcher("go", "go.noted"),
    launcher("go", "go.told"),
    launcher("go", "go.answered"),
    at("go", "go.known", Scene::Begin),
    at("go", "go.time-noted", Scene::Begin),
    at("stop", "commit.decided", Scene::Stop),
    at("stop", "commit.made", Scene::Stop),
    at("stop", "commit.shown", Scene::Stop),
    at("stop", "stop.wanted", Scene::Stop),
    at("stop", "stop.ordered", Scene::Stop),
    at("stop", "record.looked", Scene::Stop),
    at("record", "record.guest-gone", Scene::End),
    at("record", "record.looked", Scene::End),
    at("record", "record.written", Scene::End),
    at("record", "commit.decided", Scene::End),
    at("record", "commit.made", Scene::End),
    at("remove", "remove.guest-gone", Scene::End),
    at("remove", "remove.groups-gone", Scene::End),
    at("remove", "remove.network-gone", Scene::End),
    at("remove", "remove.sockets-gone", Scene::End),
    at("remove", "remove.container-gone", Scene::End),
    at("remove", "commit.decided", Scene::Remove),
    at("remove", "commit.made", Scene::Remove),
    at("remove", "remove.id-remembered", Scene::Remove),
    at("remove", "remove.moved", Scene::Remove),
    at("remove", "remove.files-gone", Scene::Remove),
    at("import", "import.layer-written", Scene::Import),
    at("import", "import.layer-named", Scene::Import),
    at("import", "import.kept", Scene::Import),
    at("import", "commit.decided", Scene::Import),
    at("import", "commit.made", Scene::Import),
    at("import", "import.listed", Scene::Import),
    at("prune", "commit.made", Scene::RemoveImage),
    at("prune", "prune.manifest-removed", Scene::RemoveImage),
    at("prune", "prune.layer-removed", Scene::RemoveImage),
    at("prune", "prune.node-layer-moved", Scene::RemoveImage),
    at("prune", "prune.rows-chosen", Scene::Retention),
    at("prune", "prune.rows-deleted", Scene::Retention),
];

impl Point {
    /// How a user names this row: `KIND/NAME`, with the passing where there are several.
    pub(crate) fn label(&self) -> String {
        let scene = format!("{:?}", self.scene);
        match self.passing {
            1 => format!("{}/{}/{scene}", self.kind, self.name),
            passing => format!("{}/{}#{passing}/{scene}", self.kind, self.name),
        }
    }

    /// A round of it takes more than a minute: whoever acts waits for a clock.
    pub(crate) fn is_slow(&self) -> bool {
        self.scene == Scene::Retention
    }
}
