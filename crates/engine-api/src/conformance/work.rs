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
    /// Takes memory until it is ended.
    Devour,
    /// Starts processes until it cannot or there are [`Work::PROCESSES`], and writes how many
    /// there are.
    Multiply,
    /// Writes the names of its network devices, one per line.
    ShowNetwork,
    /// Writes the mount options of its root.
    ShowRoot,
    /// Writes its map of user ids as the kernel shows it.
    ShowIdentity,
    /// Writes the mode of its filter of system calls: 2 is a filter.
    ShowFilter,
}

impl Work {
    /// What [`Work::Print`] writes: every byte, and a line without an end.
    pub const TEXT: &'static [u8] = b"one\ntwo\n\x00\xff end";
    /// How many processes [`Work::Multiply`] tries to have.
    pub const PROCESSES: u32 = 60;

    /// The work as a script for a POSIX shell with the usual small programs.
    pub fn script(self) -> String {
        match self {
            Self::Exit(code) => format!("exit {code}"),
            Self::Print => r"printf 'one\ntwo\n\000\377 end'".to_owned(),
            Self::Sleep => "sleep 100000".to_owned(),
            Self::Nap => "sleep 0.3".to_owned(),
            Self::Spin => "while :; do :; done".to_owned(),
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
        }
    }
}
