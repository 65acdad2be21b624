//! A fake EC2, and how its names are asked for.

use super::*;

/// Signs as one who may ask EC2.
#[derive(Debug)]
pub struct Ec2Signer(pub Credential);

impl Signer for Ec2Signer {
    fn sign(&self, request: Unsigned, at: UnixSeconds) -> Signing<'_> {
        Box::pin(async move { Ok(Signature(fake_ec2::sign(&self.0, &request.region, &request.host, &request.body, at))) })
    }
}

/// Has no credentials.
#[derive(Debug)]
pub struct NoSigner;

impl Signer for NoSigner {
    fn sign(&self, _: Unsigned, _: UnixSeconds) -> Signing<'_> {
        Box::pin(async { Err(SignError("a role that nobody may assume".into())) })
    }
}

/// An EC2 that knows the example's temporary credential.
pub async fn fake_ec2(clock: &Arc<ManualClock>) -> FakeEc2 {
    FakeEc2::start(REGION, &["amazonaws.com"], told_by(clock), [Credential::example_role()]).await.unwrap()
}

/// Certificates of the fakes of this process. Small enough to be left to the next one who tidies up.
static CA_FOLDER: LazyLock<tempfile::TempDir> = LazyLock::new(|| tempfile::tempdir().unwrap());

/// How to ask it.
pub fn ec2_config(fake: &FakeEc2) -> ec2::Config {
    let ca_file = CA_FOLDER.path().join(format!("{}.pem", fake.addr().port()));
    std::fs::write(&ca_file, fake.ca_pem()).unwrap();
    let endpoints = ec2_endpoints(fake.addr());
    ec2::Config {
        own_region: OwnRegion::told(Some(REGION)),
        endpoints,
        roots: Roots::load(&[ca_file]).unwrap(),
        deadline: NO_HURRY,
        attempt_timeout: NO_HURRY,
        connect_timeout: NO_HURRY,
        ..ec2::Config::default()
    }
}

/// Where EC2 of our region is.
pub fn ec2_endpoints(address: SocketAddr) -> Endpoints {
    let mut endpoints = Endpoints::default();
    ec2::insert_endpoint(&mut endpoints, Partition::Aws, &format!("ec2.{REGION}.amazonaws.com"), &format!("https://{address}")).unwrap();
    endpoints
}

/// Names as they are told to one who may ask.
pub fn names(config: ec2::Config, clock: &Arc<ManualClock>, metrics: &Arc<Metrics>) -> ec2::Names {
    let signer = Arc::new(Ec2Signer(Credential::example_role()));
    ec2::Names::new(config, signer, Arc::clone(clock) as Arc<dyn Clock>, Arc::clone(metrics) as Arc<dyn ec2::Observer>).unwrap()
}
