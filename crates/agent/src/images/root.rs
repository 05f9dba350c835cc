//! The root of a member, and who its command is there.

use super::NodeImages;
use super::merged::{Merged, Place};
use super::users::{Identity, lists_with_user};
use crate::directory::{DirectoryError, MemberDirectory};
use ::images::HostImage;
use domain::{CommandUser, ImageId, Network, SessionSpec};
use engine_api::{Bind, BindOwner, RootSpec};
use guest_api::users::UserError;
use process::{Durability, WriteFileError, write_file_atomic};
use rustix::io::Errno;
use std::path::{Path, PathBuf};

/// The image's list of users with the session's in it, in the member's directory.
const PASSWD: &str = "passwd";
/// The same of groups.
const GROUP: &str = "group";

/// Everything of a container that comes from its image.
#[derive(Clone, Debug)]
pub(crate) struct MemberRoot {
    pub(crate) root: RootSpec,
    pub(crate) binds: Vec<Bind>,
    pub(crate) identity: Identity,
}

/// The root of a member cannot be put together.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RootError {
    #[error("layers of image {} are gone from this node", image.short())]
    Gone { image: ImageId },
    #[error("a layer of the image cannot be opened")]
    Open(#[from] Errno),
    #[error(transparent)]
    User(#[from] UserError),
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    #[error("the lists of users cannot be written")]
    Lists(#[from] WriteFileError),
}

/// What a member is started on. `host` is the node's own system: the root of a session that names
/// no other image, and where others have their name servers from. Blocks.
pub(crate) fn member_root(
    images: &NodeImages,
    session: &SessionSpec,
    directory: &MemberDirectory,
    host: HostImage,
) -> Result<MemberRoot, RootError> {
    let Some(imported) = &session.imported else {
        let merged = Merged::open(&host.root.layers)?;
        return Ok(MemberRoot {
            identity: Identity::of(&session.user, &merged, false)?,
            root: host.root,
            binds: host.binds,
        });
    };
    let image = imported.id;
    let gone = || RootError::Gone { image };
    let manifest = images.manifest(image)?.ok_or_else(gone)?;
    let layers = images.paths(&manifest).ok_or_else(gone)?;
    let merged = Merged::open(&layers)?;
    // Whoever is somebody in the image may have something to write there; the ordinary user of
    // every session is nobody in particular.
    let writable = session.user != CommandUser::Ordinary;
    let identity = Identity::of(&session.user, &merged, writable)?;
    let mut binds = names_of_hosts(&merged, session.network, &host);
    if !writable {
        binds.extend(own_lists(&merged, directory)?);
    }
    Ok(MemberRoot {
        root: RootSpec {
            layers,
            read_only: !writable,
        },
        binds,
        identity,
    })
}

/// Where names of hosts are looked up: the image's files are for the machine that it was made on.
/// The engine puts its own content over `hosts` and `hostname`, where these are.
fn names_of_hosts(image: &Merged, network: Network, host: &HostImage) -> Vec<Bind> {
    let skeleton = host.root.layers.first();
    let skeleton = skeleton.map_or(Path::new("/"), PathBuf::as_path);
    let mut binds = Vec::new();
    for name in ["hosts", "hostname", "resolv.conf"] {
        let inside = format!("/etc/{name}");
        let resolver = name == "resolv.conf";
        let target = match image.look_up(&inside) {
            Ok(Place::Missing(path)) => path,
            Ok(Place::File(path, _)) if resolver => path,
            Ok(Place::File(..) | Place::Directory | Place::Other) | Err(_) => continue,
        };
        if !resolver || network != Network::None {
            binds.push(shown(skeleton.join("etc").join(name), target));
        }
    }
    binds
}

/// Lists of users and groups that know the session's user, where the image's do not.
fn own_lists(image: &Merged, directory: &MemberDirectory) -> Result<Vec<Bind>, RootError> {
    let (passwd, group) = lists_with_user(image);
    let mut binds = Vec::new();
    for (name, list) in [(PASSWD, passwd), (GROUP, group)] {
        let Some(list) = list else { continue };
        let place = image.look_up(&format!("/etc/{name}"));
        let (Ok(Place::Missing(target)) | Ok(Place::File(target, _))) = place else {
            continue;
        };
        let path = directory.entry(name);
        write_file_atomic(&path, list.as_bytes(), 0o644, Durability::Process)?;
        binds.push(shown(path, target));
    }
    Ok(binds)
}

fn shown(source: PathBuf, target: PathBuf) -> Bind {
    Bind {
        source,
        target,
        read_only: true,
        owner: BindOwner::System,
    }
}
