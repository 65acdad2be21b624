//! Load and test tools for TokenReview webhooks that authenticate AWS IAM tokens.
//!
//! [`run`] puts load on a webhook and checks each answer; [`ceiling`] is the most that one over hyper and rustls could do.
//!
//! Beside them: [`sts`], a fake STS that checks signatures as the real one does and misbehaves on demand, and [`token`], which signs tokens
//! for it with the made-up credentials of [`credential`]; and [`ec2`], a fake of EC2's DescribeInstances. Tests of other crates start it in their own runtime; operators start it as
//! `arngate-loadtest sts`.
//!
//! It talks HTTP and knows `arngate-core` only: nothing here depends on the server that is tested.
//!
//! ```
//! use arngate_core::{ClusterId, StsHost, UnixSeconds, time::AmzDate};
//! use arngate_loadtest::{clock::Clock, credential::Credential, sts, token};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let now = AmzDate::parse(b"20261124T120000Z")?;
//! let user = Credential::example_user();
//! let config = sts::Config { credentials: vec![user.clone()], ..sts::Config::new(Clock::fixed(now.unix())) };
//! let sts = sts::FakeSts::start(config).await?;
//!
//! let token = token::sign_token(&user, StsHost::global(), ClusterId::parse("prod")?, now);
//! // … let a server that trusts `sts.ca_pem()` and takes `sts.addr()` for sts.amazonaws.com judge the token …
//!
//! sts.set_behaviour(sts::Behaviour::Throttle);
//! assert_eq!(sts.calls(), 0);
//! sts.stop().await;
//! # drop(token);
//! # Ok(())
//! # }
//! ```

pub mod arrivals;
pub mod ceiling;
pub mod certificate;
pub mod cgroup;
pub mod clock;
pub mod credential;
pub mod ec2;
pub mod fixture;
pub mod generator;
pub mod kubeconfig;
pub mod mix;
pub mod outcome;
pub mod population;
pub mod process;
pub mod question;
pub mod report;
pub mod result;
pub mod run;
pub mod scenario;
pub mod scrape;
pub mod sts;
pub mod subject;
pub mod supply;
pub mod tally;
pub mod target;
pub mod threshold;
pub mod token;
pub mod transport;
