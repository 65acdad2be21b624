//! STS in memory, so that time stands still until all wait.

use std::collections::HashMap;

use tokio::time::sleep;

use super::*;
use crate::metrics::StsState;
use crate::outbound::{ConnectError, Script};
use crate::prover::{OwnedToken, ProveError};

/// What the server is asked.
pub(super) struct Asked {
    pub(super) host: String,
    /// How often it has been asked before, over all.
    pub(super) before: usize,
    /// How often it has been asked just this before.
    pub(super) before_this: usize,
    pub(super) access_key_id: String,
}

/// What it does, and after how long.
type Answers = Arc<dyn Fn(&Asked) -> (Duration, Answer) + Send + Sync>;

/// STS in memory: what it does is decided for each request.
pub(super) struct Sts {
    pub(super) client: Client,
    pub(super) realm: Arc<Realm>,
    pub(super) counts: Arc<Counts>,
    seen: Arc<Mutex<Seen>>,
    _folder: TempDir,
}

#[derive(Default)]
pub(super) struct Seen {
    pub(super) connections: usize,
    pub(super) requests: usize,
    targets: HashMap<String, usize>,
    now: usize,
    pub(super) most: usize,
    now_by_key: HashMap<String, usize>,
    pub(super) most_by_key: HashMap<String, usize>,
}

/// A region that nobody knows.
pub(super) const MADE_UP: [&str; 6] = ["xx-north-1", "xx-north-2", "xx-north-3", "xx-north-4", "xx-north-5", "xx-north-6"];

impl Sts {
    pub(super) fn new(config: Config, answers: impl Fn(&Asked) -> (Duration, Answer) + Send + Sync + 'static) -> Self {
        Self::connecting(config, |_| Ok(()), answers)
    }

    pub(super) fn connecting(
        config: Config,
        connect: impl Fn(&str) -> Result<(), ConnectError> + Send + Sync + 'static,
        answers: impl Fn(&Asked) -> (Duration, Answer) + Send + Sync + 'static,
    ) -> Self {
        let counts: Arc<Counts> = Arc::default();
        let observer = Arc::clone(&counts) as Arc<dyn Observer>;
        Self { counts, ..Self::observed(config, connect, answers, observer) }
    }

    pub(super) fn observed(
        config: Config,
        connect: impl Fn(&str) -> Result<(), ConnectError> + Send + Sync + 'static,
        answers: impl Fn(&Asked) -> (Duration, Answer) + Send + Sync + 'static,
        observer: Arc<dyn Observer>,
    ) -> Self {
        let folder = TempDir::new().unwrap();
        let ca_file = folder.path().join("ca.pem");
        let hosts = |prefix: &'static str| {
            Partition::Aws.known_regions().iter().chain(&MADE_UP).map(move |region| format!("{prefix}.{region}.amazonaws.com"))
        };
        let hosts: Vec<String> = hosts("sts").chain(hosts("sts-fips")).collect();
        let acceptor = acceptor(&hosts.iter().map(String::as_str).collect::<Vec<_>>(), &ca_file);
        let (seen, answers): (Arc<Mutex<Seen>>, Answers) = (Arc::default(), Arc::new(answers));
        let config = Config { roots: Roots::load(&[ca_file]).unwrap(), ..config };
        let script: Script = {
            let seen = Arc::clone(&seen);
            Arc::new(move |host| {
                seen.lock().unwrap().connections += 1;
                connect(host)?;
                let (ours, theirs) = tokio::io::duplex(1 << 16);
                tokio::spawn(serve_one(acceptor.clone(), theirs, host.to_owned(), Arc::clone(&seen), Arc::clone(&answers)));
                Ok(ours)
            })
        };
        let connector = Connector::scripted(&config.outbound(), config.roots.clone(), script).unwrap();
        let client = Client::with_connector(&config, connector, observer);
        let realm = realm(vec![Prover::Sts(client.clone())]);
        Self { client, realm, counts: Arc::default(), seen, _folder: folder }
    }

    pub(super) async fn ask(&self, signer: &Signer) -> Result<(), ProveError> {
        prove(Arc::clone(&self.realm), signer.token(), now()).await.map(|_| ())
    }

    /// In a task of its own, as a flight is that nobody waits for.
    pub(super) fn spawn(&self, token: OwnedToken) -> tokio::task::JoinHandle<Result<(), ProveError>> {
        let realm = Arc::clone(&self.realm);
        tokio::spawn(async move { prove(realm, token, now()).await.map(|_| ()) })
    }

    pub(super) async fn reason(&self, signer: &Signer) -> &'static str {
        self.ask(signer).await.map_or_else(|error| error.reason(), |()| "proved")
    }

    pub(super) async fn told(&self, signer: &Signer) -> String {
        self.ask(signer).await.map_or_else(|error| error.to_string(), |()| "proved".into())
    }

    pub(super) fn seen<T>(&self, see: impl FnOnce(&Seen) -> T) -> T {
        see(&self.seen.lock().unwrap())
    }

    pub(super) fn requests(&self) -> usize {
        self.seen(|seen| seen.requests)
    }

    pub(super) fn state(&self) -> StsState {
        self.client.gauges().state().unwrap()
    }

    pub(super) fn counted(&self, what: &str) -> usize {
        self.counts.0.lock().unwrap().iter().filter(|counted| *counted == what).count()
    }
}

async fn serve_one(acceptor: TlsAcceptor, stream: tokio::io::DuplexStream, host: String, seen: Arc<Mutex<Seen>>, answers: Answers) {
    let Ok(mut stream) = acceptor.accept(stream).await else { return };
    while let Ok(head) = read_head(&mut stream).await {
        let target = head.lines().next().unwrap().to_owned();
        let access_key_id = target.split("X-Amz-Credential=").nth(1).unwrap().split('%').next().unwrap().to_owned();
        let asked = {
            let mut seen = seen.lock().unwrap();
            let before_this = *seen.targets.entry(target.clone()).and_modify(|times| *times += 1).or_default();
            seen.requests += 1;
            seen.now += 1;
            seen.most = seen.most.max(seen.now);
            let of_key = *seen.now_by_key.entry(access_key_id.clone()).and_modify(|times| *times += 1).or_insert(1);
            let most = seen.most_by_key.entry(access_key_id.clone()).or_default();
            *most = of_key.max(*most);
            Asked { host: host.clone(), before: seen.requests - 1, before_this, access_key_id: access_key_id.clone() }
        };
        let (after, answer) = answers(&asked);
        sleep(after).await;
        {
            let mut seen = seen.lock().unwrap();
            seen.now -= 1;
            *seen.now_by_key.get_mut(&access_key_id).unwrap() -= 1;
        }
        match answer {
            Answer::Bytes(bytes) => stream.write_all(&bytes).await.unwrap(),
            Answer::Last(bytes) => {
                stream.write_all(&bytes).await.unwrap();
                return stream.flush().await.unwrap();
            }
            Answer::Close => return,
            Answer::Hang | Answer::Endless => std::future::pending().await,
        }
        stream.flush().await.unwrap();
    }
}
