//! Images: names that move, removal while in use, and sessions made on what is there.

use super::bench::{Bench, exited, owner, running, spec};
use crate::manager::{
    Answer, CreateRequest, EventKind, IMAGES_LIMIT, ImageTarget, Refusal, RequestToken,
};
use crate::rows::ImageRecord;
use domain::image::{Layer, Manifest, Settings};
use domain::{
    Capability, Digest, ImageId, ImageName, ImportedImage, Owner, SessionId, SessionKind,
    SessionSpec, Timestamp,
};

fn id(number: u8) -> ImageId {
    ImageId(Digest([number; 32]))
}

fn name(text: &str) -> ImageName {
    text.parse().expect("a good name")
}

fn other() -> Owner {
    Owner {
        user: "bob".to_owned(),
        ..owner()
    }
}

fn image(number: u8, owner: Owner) -> ImageRecord {
    let digest = Digest([number; 32]);
    ImageRecord {
        id: id(number),
        owner,
        created_at: Timestamp(i64::from(number)),
        manifest: Manifest {
            format: Manifest::FORMAT,
            layers: vec![Layer {
                digest,
                diff_id: digest,
                bytes: 10,
                stored_bytes: 5,
                entries: 1,
            }],
            settings: Settings::default(),
            architecture: "amd64".to_owned(),
            os: "linux".to_owned(),
            created: None,
        },
        case_twins: 0,
    }
}

impl Bench {
    fn add(&mut self, number: u8, called: Option<&str>) -> Answer {
        self.add_for(owner(), number, called)
    }

    fn add_for(&mut self, owner: Owner, number: u8, called: Option<&str>) -> Answer {
        self.step(EventKind::AddImage {
            token: RequestToken(0),
            image: Box::new(image(number, owner)),
            name: called.map(name),
        });
        self.answer()
    }

    fn remove_image(&mut self, target: ImageTarget) -> Answer {
        self.step(EventKind::RemoveImage {
            token: RequestToken(0),
            owner: owner(),
            target,
        });
        self.answer()
    }

    fn prune_images(&mut self) -> Answer {
        self.step(EventKind::PruneImages {
            token: RequestToken(0),
            owner: owner(),
        });
        self.answer()
    }

    fn names_of(&self, number: u8) -> Vec<String> {
        let names = self.view.catalogue.names_of(&owner(), id(number));
        names.into_iter().map(ImageName::to_string).collect()
    }

    /// A session of `owner` on an image.
    fn run_on(&mut self, owner: Owner, number: u8, called: &str) -> Answer {
        let living = u64::try_from(self.view.sessions.len()).expect("few");
        self.create_request(CreateRequest {
            id: SessionId(1_000 + living),
            name: Some(called.parse().expect("a good name")),
            owner,
            kind: SessionKind::Batch,
            spec: on(number, "amd64"),
            idempotency: None,
            priority: domain::Priority::USUAL,
            retry: 0,
            after: vec![],
        })
    }
}

fn on(number: u8, architecture: &str) -> SessionSpec {
    SessionSpec {
        image: "debian".to_owned(),
        imported: Some(ImportedImage {
            id: id(number),
            architecture: architecture.to_owned(),
        }),
        ..spec()
    }
}

fn added(number: u8, already: bool, moved_from: Option<u8>) -> Answer {
    Answer::ImageAdded {
        image: id(number),
        already,
        moved_from: moved_from.map(id),
    }
}

fn removed(images: &[u8], names: &[&str]) -> Answer {
    Answer::ImagesRemoved {
        images: images.iter().map(|number| id(*number)).collect(),
        names: names.iter().map(|text| name(text)).collect(),
    }
}

/// A bench whose node runs programs for amd64.
fn bench() -> Bench {
    let mut bench = Bench::empty();
    let mut hello = Bench::hello(1);
    for row in ["architecture.amd64", "root.layers"] {
        hello.capabilities.insert(row.to_owned(), Capability::Yes);
    }
    let hello = Box::new(hello);
    bench.step(EventKind::NodeConnected { hello });
    bench.report(1, &[]);
    bench
}

#[test]
fn a_name_moves_and_the_image_before_stays_until_it_is_pruned() {
    let mut bench = bench();
    assert_eq!(bench.add(1, Some("debian")), added(1, false, None));
    assert_eq!(bench.add(1, Some("debian")), added(1, true, None));
    assert_eq!(bench.add(1, Some("debian:12")), added(1, true, None));
    assert_eq!(bench.names_of(1), ["debian", "debian:12"]);
    assert_eq!(bench.add(2, Some("debian:12")), added(2, false, Some(1)));
    assert_eq!(bench.prune_images(), removed(&[], &[]));
    assert_eq!(bench.add(2, Some("debian")), added(2, true, Some(1)));
    assert_eq!(bench.names_of(1), [""; 0]);
    bench.restart();
    assert_eq!(bench.names_of(2), ["debian", "debian:12"]);
    assert_eq!(bench.prune_images(), removed(&[1], &[]));
    assert_eq!(bench.prune_images(), removed(&[], &[]));
}

#[test]
fn the_last_name_takes_the_image_with_it() {
    let mut bench = bench();
    bench.add(1, Some("debian"));
    bench.add(1, Some("debian:12"));
    let by_name = |text| ImageTarget::Name(name(text));
    assert_eq!(
        bench.remove_image(by_name("debian")),
        removed(&[], &["debian"])
    );
    assert_eq!(
        bench.remove_image(by_name("debian:12")),
        removed(&[1], &["debian:12"])
    );
    let refusal = Refusal::NoSuchImage {
        image: "debian".to_owned(),
    };
    assert_eq!(
        bench.remove_image(by_name("debian")),
        Answer::Refused { refusal }
    );
    bench.add(1, Some("a"));
    bench.add(1, Some("b"));
    let whole = ImageTarget::Image(id(1));
    assert_eq!(bench.remove_image(whole), removed(&[1], &["a", "b"]));
}

#[test]
fn what_is_in_use_is_not_removed() {
    let mut bench = bench();
    bench.add(1, Some("debian"));
    bench.add(1, Some("second"));
    let Answer::Created { session, .. } = bench.run_on(owner(), 1, "uses") else {
        panic!("{:?}", bench.answer());
    };
    let in_use = |sessions: &[&str]| Answer::Refused {
        refusal: Refusal::ImageInUse {
            image: id(1),
            sessions: sessions
                .iter()
                .map(|name| name.parse().expect("a name"))
                .collect(),
        },
    };
    assert_eq!(
        bench.remove_image(ImageTarget::Image(id(1))),
        in_use(&["uses"])
    );
    // One of two names may go: the session runs on the image, not on its name.
    let second = ImageTarget::Name(name("second"));
    assert_eq!(bench.remove_image(second), removed(&[], &["second"]));
    bench.add(2, Some("debian"));
    assert_eq!(bench.prune_images(), removed(&[], &[]));
    let member = bench.member(session, 0);
    bench.report(1, &[(member, running())]);
    assert_eq!(
        bench.remove_image(ImageTarget::Image(id(1))),
        in_use(&["uses"])
    );
    bench.report(1, &[(member, exited(member, 0))]);
    assert_eq!(bench.prune_images(), removed(&[1], &[]));
}

#[test]
fn sessions_are_made_on_their_owners_images_only() {
    let mut bench = bench();
    bench.add(1, Some("debian"));
    let refused = |bench: &mut Bench, owner| match bench.run_on(owner, 1, "s") {
        Answer::Refused { refusal } => refusal,
        other => panic!("{other:?}"),
    };
    let absent = Refusal::NoSuchImage {
        image: "debian".to_owned(),
    };
    assert_eq!(refused(&mut bench, other()), absent);
    bench.add_for(other(), 1, None);
    assert!(matches!(
        bench.run_on(other(), 1, "s"),
        Answer::Created { .. }
    ));
    // What another owner runs does not hold one's own row.
    let whole = ImageTarget::Image(id(1));
    assert_eq!(bench.remove_image(whole), removed(&[1], &["debian"]));
    assert_eq!(refused(&mut bench, owner()), absent);
}

#[test]
fn another_architecture_is_refused_naming_both() {
    let mut bench = bench();
    bench.add(1, None);
    let refusal = bench.refused(None, on(1, "arm64"));
    assert_eq!(
        refusal.to_string(),
        "the image `debian` is for arm64, and the site's nodes are amd64"
    );
    assert!(matches!(
        bench.refused(None, on(1, "vax")),
        Refusal::OtherArchitecture { .. }
    ));
    bench.create(on(1, "amd64"));
}

#[test]
fn each_owner_sees_their_own_images_and_names() {
    let mut bench = bench();
    bench.add(1, Some("debian"));
    bench.add(2, Some("alpine"));
    bench.add_for(other(), 3, Some("debian"));
    let catalogue = &bench.view.catalogue;
    let called = |owner: &Owner, text| {
        let found = catalogue.named(owner, &name(text));
        found.map(|image| image.id)
    };
    assert_eq!(called(&owner(), "debian"), Some(id(1)));
    assert_eq!(called(&other(), "debian"), Some(id(3)));
    assert_eq!(called(&other(), "alpine"), None);
    assert!(catalogue.image(&owner(), id(2)).is_some());
    assert!(catalogue.image(&other(), id(2)).is_none());
    let all: Vec<ImageId> = catalogue.images().map(|image| image.id).collect();
    assert_eq!(all, [id(1), id(2), id(3)]);
    let names = |owner: &Owner| catalogue.names(owner).map(ImageName::to_string).collect();
    let own: Vec<String> = names(&owner());
    assert_eq!(own, ["alpine", "debian"]);
    let others: Vec<String> = names(&other());
    assert_eq!(others, ["debian"]);
}

#[test]
fn many_that_use_an_image_are_counted_and_not_listed() {
    let mut bench = bench();
    bench.add(1, Some("debian"));
    for number in 0..7 {
        bench.run_on(owner(), 1, &format!("s{number}"));
    }
    let Answer::Refused { refusal } = bench.remove_image(ImageTarget::Image(id(1))) else {
        panic!("it is in use")
    };
    let words = refusal.to_string();
    assert!(
        words.ends_with("is in use by s0, s1, s2, s3, s4 and 2 more"),
        "{words}"
    );
}

#[test]
fn a_full_site_takes_no_new_image_and_new_names_for_those_it_has() {
    let mut bench = bench();
    bench.add(1, Some("debian"));
    let numbered = |number: u64| {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&number.to_be_bytes());
        ImageRecord {
            id: ImageId(Digest(bytes)),
            ..image(0, other())
        }
    };
    let most = u64::try_from(IMAGES_LIMIT).expect("small");
    let mut full = bench.copy();
    full.images.extend((1..most).map(numbered));
    let events = bench.events.clone();
    bench.restore(full, events);
    let refusal = Refusal::ImagesFull {
        limit: IMAGES_LIMIT,
    };
    assert_eq!(bench.add(2, None), Answer::Refused { refusal });
    assert_eq!(bench.add(1, Some("stable")), added(1, true, None));
    bench.remove_image(ImageTarget::Image(id(1)));
    assert_eq!(bench.add(2, None), added(2, false, None));
}

#[test]
fn the_owners_project_is_told_of_an_image_that_is_new() {
    let mut bench = bench();
    bench.add(1, Some("debian"));
    bench.add(1, Some("stable"));
    let events = bench.events.iter();
    let told: Vec<_> = events
        .filter(|event| event.code == "image.imported")
        .map(|event| (event.project.as_deref(), event.message.as_str()))
        .collect();
    assert_eq!(
        told,
        [(Some("default"), "image debian was imported by ada")]
    );
}
