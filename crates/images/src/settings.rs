//! Settings from an image's configuration, checked: they become arguments, variables and paths.

use crate::{Overrides, Refusal};
use domain::image::Settings;
use serde::Deserialize;
use std::collections::BTreeMap;

/// Bytes of a user, a port or a signal.
const WORD_LIMIT: usize = 256;

/// The part of an OCI configuration that says how to start; docker's is the same.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct RawSettings {
    entrypoint: Option<Vec<String>>,
    cmd: Option<Vec<String>>,
    env: Option<Vec<String>>,
    user: Option<String>,
    working_dir: Option<String>,
    labels: Option<BTreeMap<String, Option<String>>>,
    exposed_ports: Option<BTreeMap<String, serde::de::IgnoredAny>>,
    stop_signal: Option<String>,
}

impl RawSettings {
    /// As they are kept.
    pub(crate) fn settings(self) -> Result<Settings, Refusal> {
        let mut env = Vec::new();
        for text in self.env.unwrap_or_default() {
            let Some((name, value)) = text.split_once('=') else {
                return Err(wrong("env", "has a variable without `=`"));
            };
            set(&mut env, name, value);
        }
        let labels = self.labels.unwrap_or_default().into_iter();
        let text = |value: Option<String>| value.filter(|text| !text.is_empty());
        Ok(Settings {
            entrypoint: self.entrypoint.unwrap_or_default(),
            command: self.cmd.unwrap_or_default(),
            env,
            user: text(self.user),
            workdir: text(self.working_dir),
            labels: labels
                .map(|(name, value)| (name, value.unwrap_or_default()))
                .collect(),
            ports: self.exposed_ports.unwrap_or_default().into_keys().collect(),
            stop_signal: text(self.stop_signal),
        })
    }
}

/// Puts the overrides in place of an image's settings.
pub(crate) fn overridden(mut settings: Settings, overrides: &Overrides) -> Settings {
    if let Some(entrypoint) = &overrides.entrypoint {
        settings.entrypoint.clone_from(entrypoint);
    }
    if let Some(command) = &overrides.command {
        settings.command.clone_from(command);
    }
    for (name, value) in &overrides.env {
        set(&mut settings.env, name, value);
    }
    if overrides.user.is_some() {
        settings.user.clone_from(&overrides.user);
    }
    if overrides.workdir.is_some() {
        settings.workdir.clone_from(&overrides.workdir);
    }
    settings.labels.extend(overrides.labels.clone());
    settings
}

/// The last value of a name wins, at the place of the first.
fn set(env: &mut Vec<(String, String)>, name: &str, value: &str) {
    match env.iter_mut().find(|(known, _)| known == name) {
        Some((_, old)) => value.clone_into(old),
        None => env.push((name.to_owned(), value.to_owned())),
    }
}

fn wrong(setting: &'static str, problem: &'static str) -> Refusal {
    Refusal::Setting { setting, problem }
}

/// Refuses settings that cannot be what they say.
pub(crate) fn check(settings: &Settings, limit: usize) -> Result<(), Refusal> {
    let lists = [
        ("entrypoint", &settings.entrypoint),
        ("command", &settings.command),
        ("ports", &settings.ports),
    ];
    let mut bytes = 0;
    for (setting, list) in lists {
        for text in list {
            bytes += no_zero(setting, text)?;
        }
    }
    let pairs = settings.env.iter().map(|pair| ("env", &pair.0, &pair.1));
    let labels = settings.labels.iter();
    for (setting, name, value) in pairs.chain(labels.map(|(name, value)| ("labels", name, value))) {
        bytes += no_zero(setting, name)? + no_zero(setting, value)?;
        if setting == "env" && (name.is_empty() || name.contains('=')) {
            return Err(wrong(setting, "has a variable without a proper name"));
        }
    }
    if bytes > limit {
        return Err(Refusal::TooLarge {
            what: "the list of all settings",
            limit: crate::streams::length(limit),
        });
    }
    for port in &settings.ports {
        word("ports", port)?;
    }
    if settings.entrypoint.first().is_some_and(String::is_empty) {
        return Err(wrong("entrypoint", "begins with an empty word"));
    }
    check_user_and_workdir(settings)
}

fn check_user_and_workdir(settings: &Settings) -> Result<(), Refusal> {
    if let Some(user) = &settings.user {
        word("user", user)?;
        let mut parts = user.split(':');
        let proper = parts.by_ref().take(2).all(|part| !part.is_empty());
        if !proper || parts.next().is_some() {
            return Err(wrong("user", "is not USER or USER:GROUP"));
        }
    }
    if let Some(signal) = &settings.stop_signal {
        word("stop_signal", signal)?;
    }
    if let Some(workdir) = &settings.workdir {
        no_zero("workdir", workdir)?;
        if !workdir.starts_with('/') {
            return Err(wrong("workdir", "is not an absolute path"));
        }
        if workdir.len() > crate::Limits::LINK_BYTES {
            return Err(wrong("workdir", "is longer than a path can be"));
        }
        if workdir.split('/').any(|name| name == "..") {
            return Err(wrong("workdir", "has a `..`"));
        }
    }
    Ok(())
}

/// The bytes it has.
fn no_zero(setting: &'static str, text: &str) -> Result<usize, Refusal> {
    if text.contains('\0') {
        return Err(wrong(setting, "has a zero byte"));
    }
    Ok(text.len())
}

/// One printable word.
fn word(setting: &'static str, text: &str) -> Result<(), Refusal> {
    let odd = |character: char| character.is_control() || character.is_whitespace();
    if text.is_empty() || text.len() > WORD_LIMIT || text.chars().any(odd) {
        return Err(wrong(setting, "is not one printable word"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{RawSettings, check, overridden};
    use crate::Overrides;
    use domain::image::Settings;

    fn parse(text: &str) -> Settings {
        let raw: RawSettings = serde_json::from_str(text).expect("JSON");
        raw.settings().expect("settings")
    }

    #[test]
    fn what_docker_and_umoci_write_is_understood() {
        let settings = parse(
            r#"{"User":"www:www","ExposedPorts":{"80/tcp":{}},"Env":["A=1","B=x=y","A=2"],
                "Entrypoint":["/e"],"Cmd":null,"WorkingDir":"","Labels":{"l":null},
                "Volumes":{"/data":{}},"OnBuild":null,"StopSignal":"SIGRTMIN+3"}"#,
        );
        check(&settings, 1_000).expect("proper");
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(settings.env, [pair("A", "2"), pair("B", "x=y")]);
        assert_eq!(settings.entrypoint, ["/e"]);
        assert!(settings.command.is_empty() && settings.workdir.is_none());
        assert_eq!(settings.ports, ["80/tcp"]);
        let overrides = Overrides {
            entrypoint: Some(Vec::new()),
            env: vec![pair("B", "z"), pair("C", "")],
            user: Some("0".into()),
            ..Overrides::default()
        };
        let other = overridden(settings, &overrides);
        assert!(other.entrypoint.is_empty());
        assert_eq!(other.env, [pair("A", "2"), pair("B", "z"), pair("C", "")]);
        assert_eq!(other.user.as_deref(), Some("0"));
    }

    #[test]
    fn absurd_settings_are_refused() {
        for text in [
            r#"{"Env":["A=\u0000"]}"#,
            r#"{"Env":["=1"]}"#,
            r#"{"Entrypoint":[""]}"#,
            r#"{"Cmd":["a\u0000b"]}"#,
            r#"{"User":"root\nroot"}"#,
            r#"{"User":"a:b:c"}"#,
            r#"{"User":":g"}"#,
            r#"{"WorkingDir":"relative"}"#,
            r#"{"WorkingDir":"/a/../b"}"#,
            r#"{"StopSignal":"SIG TERM"}"#,
            r#"{"Labels":{"a\u0000":"b"}}"#,
            r#"{"ExposedPorts":{"80 tcp":{}}}"#,
        ] {
            let settings = parse(text);
            assert!(check(&settings, 100_000).is_err(), "{text}");
        }
        let long = parse(&format!(r#"{{"Entrypoint":["{}"]}}"#, "x".repeat(2_000)));
        assert!(check(&long, 1_000).is_err());
        check(&long, 3_000).expect("the control");
        let raw: RawSettings = serde_json::from_str(r#"{"Env":["A"]}"#).expect("JSON");
        assert!(raw.settings().is_err());
    }
}
