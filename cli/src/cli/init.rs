//! `arngate init`: certificate, key and webhook kubeconfig ahead of time.
//!
//! upstream: cmd/aws-iam-authenticator/init.go.

use std::path::PathBuf;
use std::process::ExitCode;

use arngate_server::app;
use arngate_server::bootstrap::certs;
use arngate_server::config::{self, Overrides};
use arngate_server::telemetry::{Level, Log, Record};
use clap::Args;

use super::{Context, Stray, complain, escaped, said};

/// Where the webhook kubeconfig goes unless files go to their places.
const KUBECONFIG: &str = "aws-iam-authenticator.kubeconfig";

/// Generate the certificate, private key and webhook kubeconfig of a server
///
/// Into the current folder; with the feature gate ConfiguredInitDirectories, to where the configuration says.
#[derive(Args, Debug)]
pub(super) struct Init {
    /// Host name that the certificate is made for [default: localhost]
    #[arg(long, value_name = "NAME")]
    hostname: Option<String>,
    /// IP address that the server binds to [default: 127.0.0.1]
    #[arg(long, value_name = "IP")]
    address: Option<String>,
    #[command(flatten)]
    stray: Stray,
}

impl Init {
    pub(super) fn run(self, context: &Context) -> ExitCode {
        self.stray.warn();
        let overrides = Overrides { hostname: self.hostname, address: self.address, ..context.overrides() };
        let log = context.open_log();
        let Some(config) = said(config::load(&overrides, &context.environment())) else { return ExitCode::FAILURE };
        let server = &config.bootstrap;
        let in_place = config.feature_gates.configured_init_directories;
        // upstream: the two branches in cmd/aws-iam-authenticator/init.go.
        let (state_dir, kubeconfig) = if in_place {
            (server.state_dir.clone(), server.generate_kubeconfig.clone())
        } else {
            (PathBuf::from("."), PathBuf::from(KUBECONFIG))
        };
        let made = match app::init(&config, state_dir, kubeconfig) {
            Ok(made) => made,
            Err(error) => {
                complain(format_args!("could not initialize: {}", escaped(&error.into())));
                return ExitCode::FAILURE;
            }
        };
        if made.origin == certs::Origin::Loaded {
            say(&log, Level::Info, "loaded existing keypair");
        }
        if !made.is_for_hostname {
            say(&log, Level::Warning, &format!("{}: {}", server.hostname, app::NOT_FOR_HOSTNAME));
        }
        let files = [
            ("certificate", &made.certificate, certs::certificate_path(&server.state_dir)),
            ("key", &made.key, certs::key_path(&server.state_dir)),
            ("kubeconfig", &made.kubeconfig, server.generate_kubeconfig.clone()),
        ];
        for (what, here, there) in files {
            let (here, there) = (here.display(), there.display());
            say(
                &log,
                Level::Info,
                &match in_place {
                    true => format!("{what} generated at {here} on kubernetes master node(s)"),
                    false => format!("copy {here} to {there} on kubernetes master node(s)"),
                },
            );
        }
        say(
            &log,
            Level::Info,
            &format!(
                "configure your apiserver with `--authentication-token-webhook-config-file={}` to enable authentication with aws-iam-authenticator",
                server.generate_kubeconfig.display()
            ),
        );
        ExitCode::SUCCESS
    }
}

fn say(log: &Log, level: Level, message: &str) {
    log.write_now(&Record { level, message, fields: &[] });
}
