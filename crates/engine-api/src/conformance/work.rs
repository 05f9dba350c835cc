//! What the containers of the cases do.

/// A command that every engine can run: a shell script for real ones, a scripted life for the
/// simulated one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// Exits at once with a code.
    Exit(u8),
    /// Writes [`Work::TEXT`] to its standard output and exits with 0.
    Print,
    /// Sleeps until it is ended.
    Sleep,
    /// Sleeps for a moment and exits with 0.
    Nap,
    /// Uses a CPU until it is ended.
    Spin,
    /// Writes a line each hundredth of a second or so, until it is ended, by a program that it
    /// starts anew each time.
    Count,
    /// Takes memory until it is ended.
    Devour,
    /// Starts processes until it cannot or there are [`Work::PROCESSES`], and writes how many
    /// there are.
    Multiply,
    /// Writes the names of its network devices, one per line.
    ShowNetwork,
    /// Writes the name that the kernel gives its network namespace.
    NameNetwork,
    /// Writes the mount options of its root.
    ShowRoot,
    /// Writes its map of user ids as the kernel shows it.
    ShowIdentity,
    /// Writes the mode of its filter of system calls: 2 is a filter.
    ShowFilter,
    /// Reads the files of [`Work::LAYERS`], changes and removes some, and writes what it sees.
    UseLayers,
    /// Writes what [`Work::MOUNTED`] holds, and puts a file beside it.
    UseMount,
    /// Writes the names of the devices in `/dev`, and `opened` if it can open
    /// [`Work::DEVICE`] in its working directory.
    OpenDevices,
    /// Writes [`Work::FILL_BYTES`] into its working directory and `filled` or `full`; removes that,
    /// makes at most [`Work::FILES`] empty files, and writes how many there are.
    Fill,
}

/// A layer that a harness adds: paths below the root, and texts.
pub type Layer = &'static [(&'static str, &'static str)];

impl Work {
    /// What [`Work::Print`] writes: every byte, and a line without an end.
    pub const TEXT: &'static [u8] = b"one\ntwo\n\x00\xff end";
    /// How many processes [`Work::Multiply`] tries to have.
    pub const PROCESSES: u32 = 60;
    /// What the root of [`Work::UseLayers`] has above its own layers, the lowest first. Everybody
    /// may write the files and the directory that they are in.
    pub const LAYERS: &'static [Layer] = &[
        &[("layered/bottom", "bottom\n"), ("layered/both", "hidden\n")],
        &[("layered/both", "above\n"), ("layered/top", "top\n")],
    ];
    /// What [`Work::UseLayers`] writes.
    pub const LAYERED: &'static str = "bottom\nabove\ntop\nchanged\nadded\nadded\nboth\ntop\n";
    /// Where the container of [`Work::UseMount`] has a directory of a user, which nobody else may
    /// enter.
    pub const MOUNT: &'static str = "/mounted";
    /// The file in it, which nobody else may read, and its text.
    pub const MOUNTED: (&'static str, &'static str) = ("old", "the user's\n");
    /// The file that [`Work::UseMount`] makes there, and its text.
    pub const MADE: (&'static str, &'static str) = ("new", "the command's\n");
    /// A device node of the node's in the working directory of [`Work::OpenDevices`], if the harness
    /// can make one: it can be opened from outside.
    pub const DEVICE: &'static str = "device";
    /// What [`Work::Fill`] writes.
    pub const FILL_BYTES: u64 = 24 << 20;
    /// How many files it makes.
    pub const FILES: u32 = 10_000;

    /// The work as a script for a POSIX shell with the usual small programs.
    pub fn script(self) -> String {
        match self {
            Self::Exit(code) => format!("exit {code}"),
            Self::Print => r"printf 'one\ntwo\n\000\377 end'".to_owned(),
            Self::Sleep => "sleep 100000".to_owned(),
            Self::Nap => "sleep 0.3".to_owned(),
            Self::Spin => "while :; do :; done".to_owned(),
            Self::Count => "while :; do sleep 0.01; echo line; done".to_owned(),
            // A pipe without a reader at its end: tail keeps what it reads, to find the last line.
            Self::Devour => "tail /dev/zero".to_owned(),
            Self::Multiply => format!(
                "n=0; while [ $n -lt {} ]; do sleep 100 & n=$((n+1)); echo $n; done 2>/dev/null",
                Self::PROCESSES
            ),
            Self::ShowNetwork => {
                "while IFS=: read -r name rest; do case $rest in *[0-9]*) echo $name;; esac; \
                 done < /proc/net/dev"
                    .to_owned()
            }
            Self::NameNetwork => "readlink /proc/self/ns/net".to_owned(),
            Self::ShowRoot => {
                "while read -r device place type options rest; do [ \"$place\" = / ] && \
                 last=$options; done < /proc/mounts; echo $last"
                    .to_owned()
            }
            Self::ShowIdentity => "cat /proc/self/uid_map".to_owned(),
            Self::ShowFilter => {
                "while read -r name value; do [ \"$name\" = Seccomp: ] && echo $value; done \
                 < /proc/self/status"
                    .to_owned()
            }
            Self::UseLayers => {
                "cd /layered && cat bottom both top && echo changed > both && echo added > added \
                 && rm bottom && cat both added && ls"
                    .to_owned()
            }
            Self::UseMount => format!(
                "cd {} && cat {} && printf '{}' > {}",
                Self::MOUNT,
                Self::MOUNTED.0,
                Self::MADE.1.replace('\'', "'\\''").replace('\n', "\\n"),
                Self::MADE.0
            ),
            // A shell ends where it cannot open what a builtin is to read: one of its own does.
            Self::OpenDevices => format!(
                "cd /dev; for name in *; do if [ ! -h $name ]; then if [ -c $name ] || \
                 [ -b $name ]; then echo $name; fi; fi; done; \
                 (: < /work/{}) 2>/dev/null && echo opened; exit 0",
                Self::DEVICE
            ),
            Self::Fill => format!(
                "cd /work; if head -c {} /dev/zero > fill; then echo filled; else echo full; fi; \
                 rm fill; n=0; while [ $n -lt {} ] && true > $n; do n=$((n+1)); done; echo $n",
                Self::FILL_BYTES,
                Self::FILES
            ),
        }
    }
}
