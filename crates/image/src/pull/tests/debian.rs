//! Debian's docker-registry on a free port of loopback, for one test.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::digest::Digest;
use crate::testing::TestImage;

/// bcrypt of `secret`, as htpasswd files have it.
const SECRET: &str = "$2b$04$B7ZfHWyg76VHfnKhOgnIoukAR4RfExOfB/Sw8kiW2YCe1UMZf3XLy";

pub(super) struct DebianRegistry {
    pub(super) address: String,
    client: reqwest::Client,
    scheme: &'static str,
    password: Option<&'static str>,
    child: Child,
    _dir: tempfile::TempDir,
}

/// What is switched on.
#[derive(Default)]
pub(super) struct Setup<'a> {
    /// Only user `user` with password `secret` gets in.
    pub(super) password: bool,
    /// Certificate and key.
    pub(super) tls: Option<(&'a Path, &'a Path)>,
}

impl DebianRegistry {
    pub(super) fn start(setup: &Setup<'_>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut config = format!(
            "version: 0.1\nlog:\n  level: info\nstorage:\n  filesystem:\n    rootdirectory: {}\nhttp:\n  addr: 127.0.0.1:0\n",
            dir.path().join("data").display()
        );
        if let Some((certificate, key)) = setup.tls {
            config += &format!(
                "  tls:\n    certificate: {}\n    key: {}\n",
                certificate.display(),
                key.display()
            );
        }
        if setup.password {
            let file = dir.path().join("htpasswd");
            std::fs::write(&file, format!("user:{SECRET}\n")).unwrap();
            config += &format!(
                "auth:\n  htpasswd:\n    realm: test\n    path: {}\n",
                file.display()
            );
        }
        let path = dir.path().join("config.yml");
        std::fs::write(&path, config).unwrap();
        let mut child = Command::new("docker-registry")
            .args(["serve", path.to_str().unwrap()])
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("docker-registry is needed (Debian's package of that name)");
        let mut lines = BufReader::new(child.stderr.take().unwrap())
            .lines()
            .map_while(Result::ok);
        let line = lines
            .find(|l| l.contains("listening on "))
            .expect("the registry says where it listens");
        let address = line
            .split("listening on ")
            .nth(1)
            .unwrap()
            .split(['"', ','])
            .next()
            .unwrap()
            .to_owned();
        std::thread::spawn(move || lines.for_each(drop));
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::Client::builder()
            .tls_danger_accept_invalid_certs(true)
            .no_proxy()
            .build()
            .unwrap();
        Self {
            address,
            client,
            scheme: if setup.tls.is_some() { "https" } else { "http" },
            password: setup.password.then_some("secret"),
            child,
            _dir: dir,
        }
    }

    /// Pushes an image; the reference to pull it by.
    pub(super) async fn push(&self, repository: &str, tag: &str, image: &TestImage) -> String {
        for blob in image.blobs() {
            let uploads = self.url(&format!("{repository}/blobs/uploads/"));
            let started = self.send(self.client.post(uploads)).await;
            let location = started.headers()["location"].to_str().unwrap();
            let mut url = started.url().join(location).unwrap();
            url.query_pairs_mut()
                .append_pair("digest", Digest::of(blob).as_str());
            let request = self.client.put(url).body(blob.to_vec());
            self.send(request).await;
        }
        self.push_manifest(
            repository,
            tag,
            &image.manifest,
            "application/vnd.oci.image.manifest.v1+json",
        )
        .await
    }

    pub(super) async fn push_manifest(
        &self,
        repository: &str,
        tag: &str,
        manifest: &[u8],
        kind: &str,
    ) -> String {
        let url = self.url(&format!("{repository}/manifests/{tag}"));
        self.send(
            self.client
                .put(url)
                .header("content-type", kind)
                .body(manifest.to_vec()),
        )
        .await;
        format!("{}/{repository}:{tag}", self.address)
    }

    fn url(&self, path: &str) -> String {
        format!("{}://{}/v2/{path}", self.scheme, self.address)
    }

    async fn send(&self, request: reqwest::RequestBuilder) -> reqwest::Response {
        let request = match self.password {
            Some(password) => request.basic_auth("user", Some(password)),
            None => request,
        };
        let response = request.send().await.unwrap();
        assert!(response.status().is_success(), "{response:?}");
        response
    }
}

impl Drop for DebianRegistry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
