//! The way to STS: endpoints, proxies and DNS.

use super::*;

#[test]
fn an_endpoint_is_a_host_and_a_port_for_one_of_our_hosts() {
    let hosts = StsHosts::new(Partition::Aws);
    for good in ["https://10.1.2.3:8443", "https://sts.internal:443", "https://[::1]:8443"] {
        assert_eq!(Endpoints::default().insert(HOST, good, &hosts), Ok(()), "{good}");
    }
    for bad in [
        "",
        "10.1.2.3:8443",
        "http://10.1.2.3:8443",
        "HTTPS://10.1.2.3:8443",
        "https://10.1.2.3",
        "https://10.1.2.3:",
        "https://:8443",
        "https://10.1.2.3:0",
        "https://10.1.2.3:65536",
        "https://10.1.2.3:+1",
        "https://10.1.2.3:8443/",
        "https://10.1.2.3:8443/x",
        "https://10.1.2.3:8443?x",
        "https://10.1.2.3:8443#x",
        "https://a@10.1.2.3:8443",
        "https://a:b@10.1.2.3:8443",
        "https://a b:8443",
        "https://::1:8443",
        "https://a/b:8443",
        "https://a..b:8443",
        "https://[a]:8443",
        "https://[10.1.2.3]:8443",
    ] {
        assert_eq!(Endpoints::default().insert(HOST, bad, &hosts), Err(EndpointError::Url), "{bad}");
    }
    let mut endpoints = Endpoints::default();
    for foreign in ["localhost", "sts.cn-north-1.amazonaws.com.cn", "STS.us-east-1.amazonaws.com"] {
        assert!(matches!(endpoints.insert(foreign, "https://a:1", &hosts), Err(EndpointError::Host(_))), "{foreign}");
    }
    assert_eq!(endpoints.insert(HOST, "https://a:1", &hosts), Ok(()));
    assert_eq!(endpoints.insert(HOST, "https://a:2", &hosts), Err(EndpointError::Repeated));

    let of = |endpoints: &Endpoints, host| endpoints.of(host).map(|endpoint| endpoint.to_string());
    let (mut file, mut flags) = (Endpoints::default(), Endpoints::default());
    file.insert(HOST, "https://a:1", &hosts).unwrap();
    file.insert("sts.amazonaws.com", "https://a:1", &hosts).unwrap();
    flags.insert(HOST, "https://[::1]:2", &hosts).unwrap();
    file.override_with(flags);
    assert_eq!((of(&file, HOST).as_deref(), of(&file, "sts.amazonaws.com").as_deref()), (Some("[::1]:2"), Some("a:1")));
}

/// A CONNECT proxy that leads to `port`, whatever it is asked for; it tells what it was asked.
async fn proxy(port: u16, answer: &'static str) -> (u16, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let proxy_port = listener.local_addr().unwrap().port();
    let asked: Arc<Mutex<Vec<String>>> = Arc::default();
    let heads = Arc::clone(&asked);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let head = read_head(&mut stream).await.unwrap();
            heads.lock().unwrap().push(head);
            stream.write_all(answer.as_bytes()).await.unwrap();
            let mut onward = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
            tokio::spawn(async move { copy_bidirectional(&mut stream, &mut onward).await });
        }
    });
    (proxy_port, asked)
}

const ESTABLISHED: &str = "HTTP/1.1 200 Connection established\r\n\r\n";

#[tokio::test]
async fn goes_through_the_proxy_of_the_environment() {
    let server = Server::start([good()]).await;
    let (port, asked) = proxy(server.port, ESTABLISHED).await;
    let settings = ProxySettings { https: format!("http://us%65r:pa%3Ass@127.0.0.1:{port}"), no: "10.0.0.0/8,.internal".into() };
    assert!(!format!("{settings:?}").contains("pa%3Ass"));
    let config = Config { endpoints: Endpoints::default(), proxy: settings, ..server.config() };
    let realm = realm(vec![Prover::Sts(server.client_with(config))]);
    assert!(prove(realm, UNKNOWN.token(), now()).await.is_ok());
    let asked = asked.lock().unwrap();
    assert_eq!(asked.len(), 1);
    assert!(asked[0].starts_with(&format!("CONNECT {HOST}:443 HTTP/1.1\r\n")), "{asked:?}");
    // user:pa:ss
    assert!(asked[0].contains("Proxy-Authorization: Basic dXNlcjpwYTpzcw==\r\n"), "{asked:?}");
}

#[tokio::test]
async fn a_proxy_that_refuses_makes_sts_unavailable() {
    for (answer, why) in [
        ("HTTP/1.1 407 X\r\n\r\n", "tunnel error: proxy authorization required"),
        ("HTTP/1.1 403 X\r\n\r\n", "tunnel error: unsuccessful"),
        ("garbage\r\n\r\n", "tunnel error: unsuccessful"),
    ] {
        let server = Server::start([good()]).await;
        let (port, _) = proxy(server.port, answer).await;
        let proxy = ProxySettings { https: format!("http://user:password@127.0.0.1:{port}"), no: String::new() };
        let config = Config { endpoints: Endpoints::default(), proxy, ..server.config() };
        let realm = realm(vec![Prover::Sts(server.client_with(config))]);
        assert_eq!(reason(Arc::clone(&realm), UNKNOWN.token()).await, UNAVAILABLE);
        assert_eq!(told(realm).await, format!("STS at {HOST}: no connection: proxy 127.0.0.1:{port}: {why}"));
    }
}

#[tokio::test]
async fn speaks_tls_with_a_proxy_that_wants_it() {
    // The answer of the "proxy" to CONNECT comes out of a TLS stream; what follows in it is the handshake with STS, which this one does not
    // know.
    let server = Server::start([Answer::Bytes(b"HTTP/1.1 407 X\r\n\r\n".to_vec())]).await;
    let proxy = ProxySettings { https: format!("https://localhost:{}", server.port), no: String::new() };
    let config = Config { endpoints: Endpoints::default(), proxy, ..server.config() };
    let error = told(realm(vec![Prover::Sts(server.client_with(config))])).await;
    let expected = format!("proxy localhost:{}: tunnel error: proxy authorization required", server.port);
    assert_eq!(error, format!("STS at {HOST}: no connection: {expected}"));
    assert!(server.heads.lock().unwrap()[0].starts_with("CONNECT "));
}

#[tokio::test]
async fn an_endpoint_is_connected_to_directly_whatever_the_proxies() {
    let server = Server::start([good()]).await;
    let proxy = ProxySettings { https: "http://127.0.0.1:1".into(), no: String::new() };
    let config = Config { proxy, ..server.config() };
    assert!(prove(realm(vec![Prover::Sts(server.client_with(config))]), UNKNOWN.token(), now()).await.is_ok());
}

#[test]
fn a_proxy_that_cannot_be_understood_is_an_error_and_not_shown() {
    for bad in ["socks5://user:password@127.0.0.1:1080", "http://", "a b", "ftp://user:password@host"] {
        let config = Config { proxy: ProxySettings { https: bad.into(), no: "*".into() }, ..Config::default() };
        let error = Client::new(config, Arc::new(())).unwrap_err();
        assert_eq!(error.to_string(), "HTTPS_PROXY is not a URL of an http or https proxy", "{bad}");
    }
}

/// A client whose DNS says what `resolve` says.
fn with_dns(resolve: Resolve, own_region: Option<&str>, proxy: &ProxySettings) -> Arc<Realm> {
    let config = Config { proxy: proxy.clone(), ..Config::default() };
    with_dns_and(&config, resolve, own_region)
}

pub(super) fn with_dns_and(config: &Config, resolve: Resolve, own_region: Option<&str>) -> Arc<Realm> {
    let connector = Connector::with_resolver(&config.outbound(), Roots::default(), resolve);
    let client = Client::with_connector(config, connector.unwrap(), Arc::new(()));
    let chain = Chain::new(vec![Prover::Sts(client)]).unwrap();
    Arc::new(Realm::new("edge-1", Partition::Aws, own_region, 300, chain).unwrap())
}

#[tokio::test]
async fn a_region_that_does_not_exist_is_the_callers_fault() {
    let no_name: Resolve = |_| Err(io::Error::other("failed to lookup address information: Name or service not known"));
    let broken: Resolve = |_| Err(io::Error::other("failed to lookup address information: Temporary failure in name resolution"));
    let made_up = || Signer { region: "xx-north-7", ..UNKNOWN }.token();
    let direct = ProxySettings::default();
    assert_eq!(reason(with_dns(no_name, None, &direct), made_up()).await, ("no-such-host", Outcome::Refused, Fault::Caller));
    assert_eq!(reason(with_dns(broken, None, &direct), made_up()).await, UNAVAILABLE);
    // Of a region that exists, it says that our DNS is not what it should be.
    assert_eq!(reason(with_dns(no_name, None, &direct), UNKNOWN.token()).await, UNAVAILABLE);
    assert_eq!(reason(with_dns(no_name, Some("xx-north-7"), &direct), made_up()).await, UNAVAILABLE);
    // And of a proxy, nothing about the region.
    let proxy = ProxySettings { https: "http://proxy.internal:3128".into(), no: String::new() };
    assert_eq!(reason(with_dns(no_name, None, &proxy), made_up()).await, UNAVAILABLE);
    let around = ProxySettings { no: "amazonaws.com".into(), ..proxy };
    assert_eq!(reason(with_dns(no_name, None, &around), made_up()).await.0, "no-such-host");
}

#[tokio::test]
async fn an_endpoint_that_does_not_exist_is_not_the_callers_fault() {
    let no_name: Resolve = |_| Err(io::Error::other("failed to lookup address information: Name or service not known"));
    let mut endpoints = Endpoints::default();
    endpoints.insert("sts.xx-north-7.amazonaws.com", "https://sts.internal:8443", &StsHosts::new(Partition::Aws)).unwrap();
    let realm = with_dns_and(&Config { endpoints, ..Config::default() }, no_name, None);
    let error = prove(realm, Signer { region: "xx-north-7", ..UNKNOWN }.token(), now()).await.unwrap_err();
    assert_eq!((error.reason(), error.outcome(), error.fault()), UNAVAILABLE);
    assert!(error.to_string().ends_with(": no connection: sts.internal:8443: there is no such host in DNS"), "{error}");
}

#[tokio::test]
async fn a_connection_that_nobody_waits_for_ends_too() {
    // Connects, but never speaks.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut endpoints = Endpoints::default();
    endpoints.insert(HOST, &format!("https://{}", silent.local_addr().unwrap()), &StsHosts::new(Partition::Aws)).unwrap();
    let config = Config { endpoints, attempt_timeout: Duration::from_millis(20), ..Config::default() };
    let connector = Connector::new(&config.outbound(), Roots::default()).unwrap();
    let error = connector.connect(HOST).await.err().unwrap();
    assert_eq!(error.to_string(), format!("no connection on which {HOST} speaks TLS within 20 ms"));
}

#[tokio::test]
async fn trouble_with_dns_is_told_with_its_cause() {
    let resolve: Resolve = |_| Err(io::Error::other("x: no answer from 10.0.0.1"));
    let error = prove(with_dns(resolve, None, &ProxySettings::default()), UNKNOWN.token(), now()).await.unwrap_err();
    assert!(
        error.to_string().ends_with("no connection: sts.us-east-1.amazonaws.com:443: dns error: x: no answer from 10.0.0.1"),
        "{error}"
    );
}
