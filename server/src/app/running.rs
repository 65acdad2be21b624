//! A server that listens, and serves until it is told to stop.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::net::TcpListener;

use super::ready::Ready;
use super::reload::modes_in_force;
use crate::cluster::Cluster;
use crate::http::admin::{self, Admin, Audience, Readiness};
use crate::http::serve::{self, Drained, Limits};
use crate::http::tls::Tls;
use crate::http::webhook::{self, Webhook};
use crate::mapping::Following;
use crate::metrics::Metrics;
use crate::watch::Watch;

/// A server that listens.
#[derive(Debug)]
pub struct Running {
    pub(super) cluster: Arc<Cluster>,
    pub(super) listener: TcpListener,
    pub(super) tls: Tls,
    pub(super) admin: Option<(TcpListener, Audience)>,
    pub(super) webhook: Arc<Webhook>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) ready: Arc<Ready>,
    pub(super) limits: Limits,
    pub(super) watch: Watch,
    pub(super) following: Arc<Mutex<Following>>,
}

impl Running {
    /// Where the webhook listens.
    ///
    /// # Errors
    ///
    /// The system's.
    pub fn address(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Where the listener for probes is, if there is one.
    #[must_use]
    pub fn admin_address(&self) -> Option<SocketAddr> {
        self.admin.as_ref().and_then(|(listener, _)| listener.local_addr().ok())
    }

    /// The cluster that it answers for: whoever holds it can put other mappings in force.
    #[must_use]
    pub fn cluster(&self) -> Arc<Cluster> {
        Arc::clone(&self.cluster)
    }

    /// What it counts.
    #[must_use]
    pub fn metrics(&self) -> Arc<Metrics> {
        Arc::clone(&self.metrics)
    }

    /// Serves until `shutdown`, then answers what has come in and ends.
    pub async fn run(self, shutdown: impl Future<Output = ()> + Send) -> Drained {
        let refusals: Arc<dyn serve::Refusals> = Arc::clone(&self.metrics) as _;
        let (stop_admin, admin_stopped) = tokio::sync::oneshot::channel::<()>();
        let probes = self.admin.map(|(listener, audience)| {
            let admin = Admin::new(audience, Arc::clone(&self.metrics), Arc::clone(&self.ready) as Arc<dyn Readiness>);
            let stopped = async move {
                // Either way there is nothing left to probe.
                let _ = admin_stopped.await;
            };
            tokio::spawn(admin::serve(listener, admin, Arc::clone(&refusals), stopped))
        });
        let modes = modes_in_force(&self.cluster.mappings);
        // Before the file that may change them is looked at again.
        self.following.lock().unwrap_or_else(PoisonError::into_inner).follow(&modes);
        let watching = tokio::spawn(self.watch.run());
        let ready = Arc::clone(&self.ready);
        let draining = async move {
            shutdown.await;
            ready.drains();
        };
        let handler = webhook::Served(Arc::clone(&self.webhook));
        let drained = serve::serve(self.listener, Some(self.tls), handler, self.limits, refusals, draining).await;
        watching.abort();
        self.webhook.tell_left_out();
        drop(stop_admin);
        if let Some(probes) = probes {
            // Its own bounds end it; what it has left out is no request of anybody's.
            let _ = probes.await;
        }
        drained
    }
}
