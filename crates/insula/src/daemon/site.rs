//! A site that a command talks to.

use super::outage::Outage;
use super::start::{Patience, ensure, look};
use crate::failure::Failure;
use crate::printer::Printer;
use crate::settings::Settings;
use client::{Client, ClientError};
use public_api::SiteView;
use std::sync::Arc;

/// A site, and what is needed to find it again.
#[derive(Clone, Debug)]
pub(crate) struct Site {
    /// Where it is.
    pub(crate) settings: Arc<Settings>,
    /// Where to say that it is away.
    pub(crate) printer: Printer,
    client: Client,
}

impl Site {
    /// The local site; its daemon is started if it is not there.
    pub(crate) async fn open(settings: Settings, printer: &Printer) -> Result<Self, Failure> {
        Ok(Self::open_with_view(settings, printer).await?.0)
    }

    /// Like [`Site::open`], with what the daemon said of itself.
    pub(crate) async fn open_with_view(
        settings: Settings,
        printer: &Printer,
    ) -> Result<(Self, SiteView), Failure> {
        let view = Box::pin(ensure(&settings, printer, Patience::OwnBuild)).await?;
        Ok((Self::of(settings, printer), view))
    }

    /// The local site if its daemon runs.
    pub(crate) async fn open_running(
        settings: Settings,
        printer: &Printer,
    ) -> Result<Option<(Self, SiteView)>, Failure> {
        let site = Self::of(settings, printer);
        Ok(look(&site.client).await?.map(|view| (site, view)))
    }

    /// The same site, about which nothing is said on stderr: the terminal is a program's.
    pub(crate) fn silenced(&self) -> Self {
        Self {
            printer: self.printer.silenced(),
            ..self.clone()
        }
    }

    fn of(settings: Settings, printer: &Printer) -> Self {
        Self {
            client: Client::unix(settings.socket()),
            settings: Arc::new(settings),
            printer: printer.clone(),
        }
    }

    /// For requests whose failures the caller handles.
    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    /// Asks until the site answers; the daemon is brought back if it is gone. Only for requests
    /// that may be made twice.
    pub(crate) async fn call<T>(
        &self,
        act: impl AsyncFn(&Client) -> Result<T, ClientError>,
    ) -> Result<T, Failure> {
        let mut outage = Outage::default();
        loop {
            match act(&self.client).await {
                Ok(answer) => return Ok(answer),
                Err(error) => outage.bridge(self, error).await?,
            }
        }
    }
}
