//! Unusable files, and clients that trust or do not.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, date_time_ymd};
use sortie_tls::{CertificateFiles, FileError, MAX_FILE_BYTES, http_client, server_config};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        Self(TempDir::new().unwrap())
    }

    fn write(&self, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.path().join(name);
        fs::write(&path, text).unwrap();
        path
    }

    fn files(&self, certificate: impl AsRef<[u8]>, key: impl AsRef<[u8]>) -> CertificateFiles {
        CertificateFiles { certificate: self.write("tls.crt", certificate), key: self.write("tls.key", key) }
    }
}

/// A root, and a certificate for `localhost` signed by it.
struct Made {
    root: String,
    certificate: String,
    key: String,
}

fn made(change: impl FnOnce(&mut CertificateParams)) -> Made {
    let mut root = CertificateParams::new([]).unwrap();
    root.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let issuer = CertifiedIssuer::self_signed(root, KeyPair::generate().unwrap()).unwrap();
    let mut params = CertificateParams::new(["localhost".to_owned()]).unwrap();
    change(&mut params);
    let key = KeyPair::generate().unwrap();
    let certificate = params.signed_by(&key, &issuer).unwrap();
    Made { root: issuer.pem(), certificate: certificate.pem(), key: key.serialize_pem() }
}

#[test]
fn each_problem_with_the_files_is_reported() {
    let folder = Folder::new();
    let (one, other) = (made(|_| {}), made(|_| {}));
    let said = |files: CertificateFiles| files.check().unwrap_err().to_string();

    let mut files = folder.files(&one.certificate, &one.key);
    files.key = folder.0.path().join("missing.key");
    assert!(said(files).contains("missing.key"));
    assert!(said(folder.files(&one.key, &one.key)).contains("tls.crt contains no certificate"));
    let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    assert!(said(folder.files(broken, &one.key)).contains("cannot be read"));
    assert!(
        said(folder.files(&one.certificate, &one.certificate)).contains("tls.key contains no private key")
    );
    assert!(said(folder.files(&one.certificate, &other.key)).contains("does not belong"));
    for encrypted in [
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n",
        "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\nAAAA\n-----END RSA PRIVATE KEY-----\n",
    ] {
        assert!(said(folder.files(&one.certificate, encrypted)).contains("passphrase"));
    }
    let long = vec![b' '; MAX_FILE_BYTES as usize + 1];
    assert!(matches!(folder.files(long, &one.key).check(), Err(FileError::TooLong(_))));
    let folder_as_file = CertificateFiles { certificate: folder.0.path().to_owned(), ..folder.files("", "") };
    assert!(matches!(folder_as_file.check(), Err(FileError::Unreadable { .. })));
    folder.files(&one.certificate, &one.key).check().unwrap();
}

#[test]
fn an_expired_or_expiring_certificate_is_reported() {
    let folder = Folder::new();
    let made = made(|params| {
        params.not_before = date_time_ymd(2024, 1, 1);
        params.not_after = date_time_ymd(2024, 2, 1);
    });
    let expiry = folder.files(&made.certificate, &made.key).check().unwrap();
    assert!(expiry.warning(SystemTime::now()).unwrap().contains("expired"));
    let days = |days: u64| Duration::from_secs(days * 24 * 3600);
    assert_eq!(expiry.warning(expiry.not_after - days(8)), None);
    assert!(expiry.warning(expiry.not_after - days(6)).unwrap().contains("expires in 6 days"));
}

/// Answers one connection.
async fn serve(files: CertificateFiles) -> String {
    let acceptor = TlsAcceptor::from(server_config(files).unwrap());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        let stream = listener.accept().await.unwrap().0;
        let Ok(mut stream) = acceptor.accept(stream).await else { return };
        let mut request = [0; 1024];
        assert!(stream.read(&mut request).await.unwrap() > 0);
        stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.unwrap();
        stream.shutdown().await.unwrap();
    });
    format!("https://localhost:{port}")
}

#[tokio::test]
async fn a_client_trusts_configured_roots() {
    let folder = Folder::new();
    let made = made(|_| {});
    let files = folder.files(&made.certificate, &made.key);
    let root = folder.write("root.pem", &made.root);
    let url = serve(files.clone()).await;
    let client = http_client(&url, Some(&root)).unwrap().http1_only().build().unwrap();
    assert_eq!(client.get(&url).send().await.unwrap().status(), 204);

    let other = folder.write("other.pem", self::made(|_| {}).root);
    let url = serve(files).await;
    let client = http_client(&url, Some(&other)).unwrap().build().unwrap();
    assert!(format!("{:?}", client.get(&url).send().await.unwrap_err()).contains("InvalidCertificate"));

    let error = http_client(&url, Some(&folder.write("no.pem", "no"))).unwrap_err();
    assert!(error.to_string().contains("no.pem contains no certificate"));
    // Without TLS, no roots are needed.
    let _plain = http_client("http://localhost", Some(&folder.write("no.pem", "no"))).unwrap();
}
