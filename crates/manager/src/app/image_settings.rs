//! What an image says of how it wants to be started, and what a request says: together they are
//! the specification of a session. The rules are Docker's.

use crate::app::problems::field;
use crate::app::validate::check_user;
use domain::image::Settings;
use domain::{CommandUser, HOST_IMAGE};
use public_api::{CreateSession, Problem};
use std::collections::BTreeMap;

/// Entrypoint and command. A request's command takes the place of the image's; a request's
/// entrypoint takes the place of both, since the image's command was made for its own entrypoint.
pub(crate) fn whole_command(
    request: &CreateSession,
    image: Option<&Settings>,
) -> Result<Vec<String>, Problem> {
    let none = Settings::default();
    let image = image.unwrap_or(&none);
    let entrypoint = request.entrypoint.as_ref().unwrap_or(&image.entrypoint);
    let command = match (&request.command, &request.entrypoint) {
        (command, None) if command.is_empty() => &image.command,
        (command, _) => command,
    };
    let whole: Vec<String> = entrypoint.iter().chain(command).cloned().collect();
    if whole.first().is_some_and(|program| !program.is_empty()) {
        return Ok(whole);
    }
    let name = request.image.as_deref().unwrap_or(HOST_IMAGE);
    let detail = if name == HOST_IMAGE {
        "a session needs a program to run".to_owned()
    } else {
        format!("a session needs a program to run, and the image `{name}` names none")
    };
    let hint = "write it after `--`: `insula run -- python3 train.py`";
    Err(field("command", detail).hint(hint))
}

/// The image's variables below the request's.
pub(super) fn whole_env(
    request: &CreateSession,
    image: Option<&Settings>,
) -> BTreeMap<String, String> {
    let images = image
        .into_iter()
        .flat_map(|image| image.env.iter().cloned());
    let own = request.env.iter();
    let own = own.map(|(name, value)| (name.clone(), value.clone()));
    images.chain(own).collect()
}

/// Who the command is. Root only by request has its capabilities: an image that names root, as
/// most do by saying nothing, did not ask anybody.
pub(super) fn who(
    request: &CreateSession,
    image: Option<&Settings>,
) -> Result<CommandUser, Problem> {
    if request.root && request.user.is_some() {
        let detail = "`root` and `user` exclude each other";
        return Err(field("user", detail).hint("give --root or --user, not both"));
    }
    if let Some(user) = &request.user {
        check_user(user)?;
        return Ok(CommandUser::named(user));
    }
    let images = image.and_then(|image| image.user.clone());
    let images = images.filter(|user| !user.is_empty());
    Ok(match images {
        _ if request.root => CommandUser::Root,
        Some(name) => CommandUser::Named { name, asked: false },
        None => CommandUser::Ordinary,
    })
}

#[cfg(test)]
mod tests {
    use super::{who, whole_command, whole_env};
    use domain::CommandUser;
    use domain::image::Settings;
    use public_api::CreateSession;

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    fn settings(entrypoint: &str, command: &str) -> Settings {
        Settings {
            entrypoint: words(entrypoint),
            command: words(command),
            ..Settings::default()
        }
    }

    #[test]
    fn entrypoint_and_command_follow_dockers_rules() {
        // Image's entrypoint and command, the request's, and what is run.
        for (entrypoint, command, own_entrypoint, own, expected) in [
            ("", "", None, "ls", Some("ls")),
            ("", "serve", None, "", Some("serve")),
            ("", "serve", None, "ls -l", Some("ls -l")),
            ("/e", "serve", None, "", Some("/e serve")),
            ("/e", "serve", None, "ls", Some("/e ls")),
            ("/e", "", None, "", Some("/e")),
            ("/e", "serve", Some("/x"), "", Some("/x")),
            ("/e", "serve", Some("/x -a"), "ls", Some("/x -a ls")),
            ("/e", "serve", Some(""), "ls", Some("ls")),
            ("/e", "serve", Some(""), "", None),
            ("", "", None, "", None),
        ] {
            let request = CreateSession {
                image: Some("debian".to_owned()),
                command: words(own),
                entrypoint: own_entrypoint.map(words),
                ..CreateSession::default()
            };
            let found = whole_command(&request, Some(&settings(entrypoint, command)));
            assert_eq!(
                found.as_ref().ok(),
                expected.map(words).as_ref(),
                "{found:?}"
            );
        }
        let nothing = whole_command(&CreateSession::default(), None).expect_err("no program");
        assert!(nothing.detail.contains("needs a program"), "{nothing}");
    }

    #[test]
    fn the_requests_variables_win() {
        let image = Settings {
            env: vec![("A".into(), "1".into()), ("B".into(), "2".into())],
            ..Settings::default()
        };
        let request = CreateSession {
            env: [("B".into(), "3".into())].into(),
            ..CreateSession::default()
        };
        let env = whole_env(&request, Some(&image));
        assert_eq!(
            env,
            [("A".into(), "1".into()), ("B".into(), "3".into())].into()
        );
    }

    #[test]
    fn only_a_request_makes_a_command_root_with_capabilities() {
        let image = |user: Option<&str>| Settings {
            user: user.map(str::to_owned),
            ..Settings::default()
        };
        let named = |name: &str, asked| CommandUser::Named {
            name: name.to_owned(),
            asked,
        };
        for (images, user, root, expected) in [
            (None, None, false, CommandUser::Ordinary),
            (Some(""), None, false, CommandUser::Ordinary),
            (Some("root"), None, false, named("root", false)),
            (Some("www"), None, false, named("www", false)),
            (
                Some("www"),
                Some("ann:staff"),
                false,
                named("ann:staff", true),
            ),
            (Some("www"), Some("0"), false, CommandUser::Root),
            (Some("www"), None, true, CommandUser::Root),
        ] {
            let request = CreateSession {
                user: user.map(str::to_owned),
                root,
                ..CreateSession::default()
            };
            assert_eq!(who(&request, Some(&image(images))).ok(), Some(expected));
        }
        let both = CreateSession {
            user: Some("www".to_owned()),
            root: true,
            ..CreateSession::default()
        };
        assert!(who(&both, None).is_err());
    }
}
