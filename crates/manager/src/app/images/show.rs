//! Images as they are shown.

use crate::app::convert::time_text;
use domain::image::{Layer, Settings};
use domain::{ARCHITECTURE_ROWS, HOST_IMAGE, ImageName};
use lifecycle::manager::View;
use lifecycle::rows::ImageRecord;
use public_api::{ImageSettingsView, ImageView, LayerView};
use std::collections::BTreeSet;

pub(super) fn image_view(image: &ImageRecord, view: &View) -> ImageView {
    let manifest = &image.manifest;
    let names = view.catalogue.names_of(&image.owner, image.id);
    let users = view.sessions.values().filter(|record| {
        let used = record.spec.imported.as_ref();
        let same = used.is_some_and(|used| used.id == image.id);
        same && record.owner == image.owner && record.state.is_living()
    });
    ImageView {
        id: image.id.to_string(),
        names: names.into_iter().map(ImageName::to_string).collect(),
        built_in: false,
        domain: image.owner.domain.clone(),
        project: image.owner.project.clone(),
        user: image.owner.user.clone(),
        imported_at: Some(time_text(image.created_at)),
        made_at: manifest.created.clone(),
        architecture: manifest.architecture.clone(),
        os: manifest.os.clone(),
        bytes: manifest.bytes(),
        stored_bytes: manifest.stored_bytes(),
        layers: manifest.layers.iter().map(layer_view).collect(),
        case_twins: image.case_twins,
        settings: settings_view(&manifest.settings),
        used_by: users.map(|record| record.name.to_string()).collect(),
    }
}

/// The image that every node has.
pub(super) fn host_view(view: &View) -> ImageView {
    let rows = view.present_nodes().flat_map(|node| {
        let rows = node.capabilities.keys();
        rows.filter_map(|row| row.strip_prefix(ARCHITECTURE_ROWS))
    });
    let architectures: BTreeSet<&str> = rows.collect();
    let architectures: Vec<&str> = architectures.into_iter().collect();
    ImageView {
        id: HOST_IMAGE.to_owned(),
        names: vec![HOST_IMAGE.to_owned()],
        built_in: true,
        domain: String::new(),
        project: String::new(),
        user: String::new(),
        imported_at: None,
        made_at: None,
        architecture: architectures.join(", "),
        os: "linux".to_owned(),
        bytes: 0,
        stored_bytes: 0,
        layers: Vec::new(),
        case_twins: 0,
        settings: ImageSettingsView::default(),
        used_by: Vec::new(),
    }
}

fn layer_view(layer: &Layer) -> LayerView {
    LayerView {
        digest: layer.digest.to_string(),
        diff_id: layer.diff_id.to_string(),
        bytes: layer.bytes,
        stored_bytes: layer.stored_bytes,
        entries: layer.entries,
    }
}

fn settings_view(settings: &Settings) -> ImageSettingsView {
    let env = settings.env.iter();
    ImageSettingsView {
        entrypoint: settings.entrypoint.clone(),
        command: settings.command.clone(),
        env: env.map(|(name, value)| format!("{name}={value}")).collect(),
        user: settings.user.clone(),
        workdir: settings.workdir.clone(),
        labels: settings.labels.clone(),
        ports: settings.ports.clone(),
        stop_signal: settings.stop_signal.clone(),
    }
}
