//! Making a session, and staging the files it starts with.

use crate::app::SiteService;
use crate::app::mounts::check_mounts;
use crate::app::problems::{field, no_such_session, refused};
use crate::app::resolve::owner_of;
use crate::app::validate::{Defaults, check};
use crate::clock;
use crate::leader::Request;
use crate::shared::before;
use crate::uploads::{UPLOAD_COUNT_LIMIT, UploadError};
use domain::{SessionId, UploadId};
use lifecycle::manager::{Answer, CreateRequest, KEY_RETENTION_MS, Refusal};
use lifecycle::rows::IdempotencyRow;
use public_api::{ByteStream, Caller, CreateSession, Created, Problem, ProblemCode, UploadView};
use serde::Serialize;
use sha2::{Digest, Sha256};

/// Longest idempotency key.
const KEY_LIMIT_BYTES: usize = 255;
/// How often another id is drawn; that one of these is taken is all but impossible.
pub(super) const ID_TRIES: usize = 3;

impl SiteService {
    pub(crate) async fn create_session(
        &self,
        caller: &Caller,
        request: CreateSession,
        key: Option<String>,
    ) -> Result<Created, Problem> {
        let (key, digest) = idempotency(key, &request)?;
        let idempotency = key.map(|key| (key, digest));
        let made = self.try_create(caller, request, idempotency.clone());
        let (problem, idempotency) = match (made.await, idempotency) {
            (Err(problem), Some(idempotency)) => (problem, idempotency),
            (made, _) => return made,
        };
        match self.made_before(caller, idempotency).await? {
            Some(row) => self.created(row.session, true).await,
            None => Err(problem),
        }
    }

    async fn created(&self, session: SessionId, already: bool) -> Result<Created, Problem> {
        let record = self.record(session).await?;
        let record = record.ok_or_else(|| no_such_session(&session.to_string()))?;
        let session = self.show(&record);
        Ok(Created { session, already })
    }

    /// What the same request has made before. It is asked where a request with a key fails: what
    /// it names (another session, an image, an upload) may have been removed since.
    pub(super) async fn made_before(
        &self,
        caller: &Caller,
        (key, digest): (String, String),
    ) -> Result<Option<IdempotencyRow>, Problem> {
        let user = owner_of(caller).user;
        let since = before(clock::now().wall, KEY_RETENTION_MS);
        let read = move |store: &mut dyn database::Store| store.made_by(&user, &key, since);
        // Of a store that cannot be read nobody is helped to hear here.
        let found = self.manager.leader.read(read).await.ok().flatten();
        match found {
            Some(row) if row.digest != digest => {
                let session = row.session;
                Err(refused(&Refusal::KeyReused { session }))
            }
            found => Ok(found),
        }
    }

    async fn try_create(
        &self,
        caller: &Caller,
        request: CreateSession,
        idempotency: Option<(String, String)>,
    ) -> Result<Created, Problem> {
        let defaults = self.manager.shared.read(Defaults::of);
        let image = self.image_for(caller, request.image.as_deref())?;
        let mut checked = check(&request, &self.manager.settings, defaults, image.as_deref())?;
        let settings = &self.manager.settings;
        let own = [settings.home.as_path(), &settings.runtime_directory];
        checked.spec.mounts = check_mounts(caller, &request.mounts, &own).await?;
        if let Some(upload) = checked.spec.upload {
            self.check_upload(upload, idempotency.is_some()).await?;
        }
        let after = self.resolve_after(caller, &request.after).await?;
        let mut last = None;
        for _ in 0..ID_TRIES {
            let create = CreateRequest {
                id: SessionId::new(clock::now().wall, clock::random()),
                name: checked.name.clone(),
                owner: owner_of(caller),
                kind: checked.kind,
                spec: checked.spec.clone(),
                priority: checked.priority,
                retry: checked.retry,
                after: after.clone(),
                idempotency: idempotency.clone(),
            };
            let answer = self
                .manager
                .leader
                .request(Request::Create(Box::new(create)))
                .await?;
            match answer {
                Answer::Created { session, already } => {
                    return self.created(session, already).await;
                }
                Answer::Refused {
                    refusal: refusal @ Refusal::IdTaken { .. },
                } => {
                    last = Some(refusal);
                }
                Answer::Refused { refusal } => return Err(refused(&refusal)),
                Answer::Accepted { .. }
                | Answer::ArrayCreated { .. }
                | Answer::ArrayAccepted { .. }
                | Answer::ImageAdded { .. }
                | Answer::ImagesRemoved { .. }
                | Answer::NodeAccepted { .. } => {
                    unreachable!("a creation is made or refused")
                }
            }
        }
        Err(refused(&last.expect("every other answer has returned")))
    }

    /// Refuses an upload that is not there. A request that is sent again by its key may name one
    /// that its session has used up, so then only the core can tell.
    pub(super) async fn check_upload(&self, upload: UploadId, keyed: bool) -> Result<(), Problem> {
        let there = tokio::fs::try_exists(self.manager.uploads.path(upload)).await;
        match there {
            Ok(true) => Ok(()),
            Ok(false) if keyed => Ok(()),
            Ok(false) => {
                let detail = format!("there is no upload {upload}");
                Err(Problem::new(ProblemCode::NoSuchUpload, detail))
            }
            Err(error) => {
                let detail = format!("cannot look for upload {upload}: {error}");
                Err(Problem::new(ProblemCode::Internal, detail))
            }
        }
    }

    pub(crate) async fn stage_upload(&self, body: ByteStream) -> Result<UploadView, Problem> {
        let named = self.manager.shared.named_uploads();
        let staged = self.manager.uploads.stage(&named, body).await;
        let (upload, bytes) = staged.map_err(|error: UploadError<Problem>| match error {
            UploadError::Source(problem) => problem,
            UploadError::TooLarge { limit_bytes } => {
                let limit = domain::amounts::show_bytes(limit_bytes.into());
                let detail = format!("the upload has more than {limit}");
                Problem::new(ProblemCode::TooLarge, detail)
            }
            UploadError::NotAnArchive => {
                let problem = Problem::new(ProblemCode::InvalidRequest, error.to_string());
                problem.hint("send what `tar --create` makes, without compression")
            }
            UploadError::TooMany => {
                let detail = format!("{UPLOAD_COUNT_LIMIT} uploads wait already");
                Problem::new(ProblemCode::Busy, detail)
            }
            UploadError::Write(error) if error.kind() == std::io::ErrorKind::StorageFull => {
                Problem::new(
                    ProblemCode::DiskFull,
                    "the upload does not fit on the site's disk",
                )
            }
            UploadError::Write(error) => {
                let detail = format!("the upload cannot be written: {error}");
                Problem::new(ProblemCode::Internal, detail)
            }
        })?;
        Ok(UploadView {
            id: upload.to_string(),
            bytes,
        })
    }
}

/// The key, and a digest that tells this request from any other.
pub(super) fn idempotency(
    key: Option<String>,
    request: &impl Serialize,
) -> Result<(Option<String>, String), Problem> {
    let is_bad = |key: &String| {
        key.is_empty() || key.len() > KEY_LIMIT_BYTES || key.chars().any(char::is_control)
    };
    if key.as_ref().is_some_and(is_bad) {
        let detail = format!("a key has 1 to {KEY_LIMIT_BYTES} printable characters");
        return Err(field("idempotency-key", detail));
    }
    let text = serde_json::to_vec(request).expect("plain data becomes JSON");
    let digest = Sha256::digest(&text);
    let digest: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    Ok((key, digest))
}
