//! The one way to start another program.

use std::ffi::OsStr;
use std::process::Command;

/// Variables that make a program load code, read start-up files or change its parsing. A daemon
/// must not hand these on from whoever happened to start it.
const RISKY: &[&str] = &[
    "BASH_ENV",
    "CDPATH",
    "ENV",
    "GCONV_PATH",
    "GETCONF_DIR",
    "GLOBIGNORE",
    "HOSTALIASES",
    "IFS",
    "LD_AUDIT",
    "LD_DEBUG",
    "LD_DEBUG_OUTPUT",
    "LD_DYNAMIC_WEAK",
    "LD_LIBRARY_PATH",
    "LD_ORIGIN_PATH",
    "LD_PRELOAD",
    "LD_PROFILE",
    "LOCALDOMAIN",
    "LOCPATH",
    "MALLOC_TRACE",
    "NIS_PATH",
    "NLSPATH",
    "PERL5LIB",
    "PERL5OPT",
    "PYTHONHOME",
    "PYTHONINSPECT",
    "PYTHONPATH",
    "PYTHONSTARTUP",
    "RESOLV_HOST_CONF",
    "RES_OPTIONS",
    "SHELLOPTS",
    "TZDIR",
];

/// A command for `program` whose environment is the caller's without the variables that make
/// programs load foreign code. Its standard streams are the caller's until they are set.
pub fn command(program: impl AsRef<OsStr>) -> Command {
    #[allow(
        clippy::disallowed_methods,
        reason = "this is the helper that the ban points to"
    )]
    let mut command = Command::new(program);
    for name in RISKY {
        command.env_remove(name);
    }
    command
}

#[cfg(test)]
mod tests {
    use super::command;

    #[test]
    fn risky_variables_do_not_reach_the_child() {
        let mut command = command("/usr/bin/env");
        let removed: Vec<_> = command
            .get_envs()
            .filter(|(_, value)| value.is_none())
            .map(|(name, _)| name.to_owned())
            .collect();
        assert!(removed.iter().any(|name| name == "LD_PRELOAD"));
        // Set after, it is the caller's wish.
        command.env("PYTHONPATH", "/wanted");
        let output = command.output().expect("env runs");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(text.contains("PYTHONPATH=/wanted"), "{text}");
    }
}
