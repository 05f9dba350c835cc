//! How far the image of a session is on its nodes.

use crate::app::SiteService;
use domain::amounts::show_bytes;
use domain::{MemberRecord, MemberState, SessionRecord};
use node_api::Preparation;

impl SiteService {
    /// How far the image of a session is that is being prepared, in words; the first member whose
    /// node has something to tell.
    pub(crate) async fn image_progress(&self, record: &SessionRecord) -> Option<String> {
        record.spec.imported.as_ref()?;
        let waits = |member: &&MemberRecord| member.state == MemberState::Preparing;
        for member in record.members.iter().filter(waits) {
            let asked = self
                .node_api(member.node)
                .ok()?
                .preparation(member.id)
                .await;
            if let Ok(Some(preparation)) = asked {
                let node = self.node_name(member.node);
                return Some(preparation_text(&node, &preparation));
            }
        }
        None
    }
}

fn preparation_text(node: &str, preparation: &Preparation) -> String {
    let Preparation {
        layer,
        layers,
        bytes,
        total_bytes,
    } = *preparation;
    format!(
        "{node} is unpacking layer {layer} of {layers}, {} of {}",
        show_bytes(bytes.into()),
        show_bytes(total_bytes.into())
    )
}
