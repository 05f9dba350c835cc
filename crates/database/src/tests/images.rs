//! Images and their names.

use super::sample::owner;
use super::{Opened, Place};
use domain::image::{Layer, Manifest, Settings};
use domain::{Digest, ImageId, Owner, Timestamp};
use lifecycle::rows::{ImageNameRow, ImageRecord, RowChange};

const ALWAYS: Timestamp = Timestamp(0);

fn commit(store: &mut Opened, batch: &[RowChange]) {
    store.commit(batch).expect("committed");
}

fn image(number: u8, owner: Owner) -> ImageRecord {
    let digest = |byte: u8| Digest([byte; 32]);
    let texts = |text: &str| vec![text.to_owned(), "ü\u{1f600}".to_owned()];
    ImageRecord {
        id: ImageId(digest(number)),
        owner,
        created_at: Timestamp(9),
        manifest: Manifest {
            format: 1,
            layers: vec![
                Layer {
                    digest: digest(number),
                    diff_id: digest(0x5a),
                    bytes: 7,
                    stored_bytes: 3,
                    entries: u64::MAX,
                };
                2
            ],
            settings: Settings {
                entrypoint: texts("/entry"),
                command: texts("serve"),
                env: vec![("PATH".into(), "/bin".into()), ("A".into(), String::new())],
                user: Some("www:www".into()),
                workdir: Some("/srv".into()),
                labels: [("k".into(), "v".into())].into(),
                ports: vec!["80/tcp".into()],
                stop_signal: Some("SIGQUIT".into()),
            },
            architecture: "arm64".into(),
            os: "linux".into(),
            created: Some("2026-01-01T00:00:00Z".into()),
        },
        case_twins: 3,
    }
}

fn put(image: &ImageRecord) -> RowChange {
    let image = Box::new(image.clone());
    RowChange::PutImage { image }
}

fn name(text: &str, image: &ImageRecord) -> ImageNameRow {
    ImageNameRow {
        owner: image.owner.clone(),
        name: text.parse().expect("a name"),
        image: image.id,
    }
}

fn put_name(name: &ImageNameRow) -> RowChange {
    let name = name.clone();
    RowChange::PutImageName { name }
}

pub(crate) fn images_and_names_come_back(place: &dyn Place) {
    let mut store = place.open();
    let (first, second) = (image(1, owner("ann")), image(2, owner("ann")));
    let of_bob = image(1, owner("bob"));
    let names = [
        name("debian", &first),
        name("debian:12", &first),
        name("debian", &of_bob),
    ];
    let mut batch = vec![put(&first), put(&second), put(&of_bob)];
    batch.extend(names.iter().map(put_name));
    commit(&mut store, &batch);
    drop(store);
    let mut store = place.open();
    let loaded = store.load(ALWAYS, ALWAYS).expect("loaded");
    assert_eq!(
        loaded.images,
        [first.clone(), second.clone(), of_bob.clone()]
    );
    assert_eq!(loaded.image_names, names);
    // A name moves, another goes, and an image takes its names with it but not those of others.
    let moved = name("debian", &second);
    let batch = [
        put_name(&moved),
        RowChange::DeleteImageName {
            owner: first.owner.clone(),
            name: "debian:12".parse().expect("a name"),
        },
        RowChange::DeleteImage {
            owner: first.owner.clone(),
            image: first.id,
        },
    ];
    commit(&mut store, &batch);
    let loaded = store.load(ALWAYS, ALWAYS).expect("loaded");
    assert_eq!(loaded.images, [second.clone(), of_bob.clone()]);
    assert_eq!(loaded.image_names, [moved, name("debian", &of_bob)]);
    let delete = RowChange::DeleteImage {
        owner: second.owner.clone(),
        image: second.id,
    };
    commit(&mut store, &[delete]);
    let loaded = store.load(ALWAYS, ALWAYS).expect("loaded");
    assert_eq!(loaded.image_names, [name("debian", &of_bob)]);
}

pub(crate) fn a_name_of_no_image_is_refused_with_its_batch(place: &dyn Place) {
    let mut store = place.open();
    let absent = image(1, owner("ann"));
    let batch = [put(&image(2, owner("ann"))), put_name(&name("a", &absent))];
    store.commit(&batch).expect_err("refused");
    let loaded = store.load(ALWAYS, ALWAYS).expect("loaded");
    assert_eq!((loaded.images, loaded.image_names), (vec![], vec![]));
}
