#![allow(clippy::unwrap_used)]

use super::*;
use crate::config::Config;

const HEAD: &str = "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\n";

struct Files(tempfile::TempDir);

impl Files {
    fn new(files: &[(&str, &str)]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        Self(dir)
    }

    fn flag(&self, name: &str, path: &str) -> String {
        format!("--{name}={}", self.0.path().join(path).display())
    }

    fn translate(&self, arguments: &[String]) -> Result<Translation, Vec<String>> {
        read(&Flags::parse(arguments).unwrap())
    }

    fn load(&self, arguments: &[String]) -> Config {
        let toml = self.translate(arguments).unwrap().toml;
        let dir = self.0.path().join("witlet");
        Config::read(&Source::Kubelet { toml, dir }).unwrap()
    }
}

#[test]
fn the_name_of_the_program_decides() {
    assert!(is_called(Some("/usr/bin/kubelet")) && is_called(Some("kubelet")));
    assert!(!is_called(Some("/usr/bin/witlet")) && !is_called(None));
}

/// Every key that a translation can write is one that the agent reads.
#[test]
fn a_translation_is_a_configuration() {
    let text = format!(
        "{HEAD}staticPodPath: /m\npodLogsDir: /l\nfileCheckFrequency: 30s\nrotateCertificates: true\neventRecordQPS: 1\neventBurst: 2\n\
         kubeAPIQPS: 3\nkubeAPIBurst: 4\nhealthzPort: 10249\nclusterDomain: c\nclusterDNS: [10.0.0.1]\nresolvConf: /r\n\
         nodeStatusUpdateFrequency: 20s\nnodeLeaseDurationSeconds: 60\ncgroupRoot: /x\ncgroupDriver: systemd\n\
         runtimeRequestTimeout: 1m\nmaxPods: 9\npodsPerCore: 2\nserializeImagePulls: false\nlogging: {{verbosity: 5, format: json}}\n\
         registerWithTaints: [{{key: a, value: b, effect: NoSchedule}}]\nregisterNode: false\nproviderID: x://y\nseccompDefault: true\n\
         port: 10251\nreadOnlyPort: 10255\ntlsMinVersion: VersionTLS13\nserverTLSBootstrap: true\n\
         authentication: {{x509: {{clientCAFile: /ca}}, webhook: {{cacheTTL: 1m}}}}\nauthorization: {{mode: AlwaysAllow}}\n\
         enableDebuggingHandlers: false\nregistryPullQPS: 7\nregistryBurst: 8\n\
         imagePullCredentialsVerificationPolicy: NeverVerifyAllowlistedImages\npreloadedImagesVerificationAllowlist: [registry.example/y/*]\n\
         containerRuntimeEndpoint: unix:///a.sock\nimageServiceEndpoint: unix:///b.sock\nuserNamespaces: {{idsPerPod: 131072}}\n"
    );
    let files = Files::new(&[("config.yaml", &text)]);
    let config = files.load(&[
        files.flag("config", "config.yaml"),
        "--kubeconfig=/k".into(),
        "--bootstrap-kubeconfig=/b".into(),
        "--cert-dir=/p".into(),
        "--hostname-override=n".into(),
        "--root-dir=/root".into(),
        "--node-ip=10.0.0.9,fd00::9".into(),
        "--node-labels=zone=a".into(),
        "--image-credential-provider-config=/cp".into(),
        "--image-credential-provider-bin-dir=/cpd".into(),
        "--cloud-provider=external".into(),
    ]);
    let sections = config.sections;
    let api = sections.api.unwrap();
    assert!(api.rotate_certificates);
    assert_eq!((api.qps, api.burst, api.event_qps, api.event_burst), (3, 4, 1, 2));
    assert_eq!((sections.images.pulls_per_second, sections.images.pull_burst), (7, 8));
    let node = sections.node;
    assert_eq!((node.address.len(), node.max_pods, node.pods_per_core), (2, 9, 2));
    assert_eq!((node.status_interval.0.as_secs(), node.lease.0.as_secs()), (20, 60));
    assert!(!node.register && node.external_cloud_provider && node.seccomp_default);
}

#[test]
fn a_kubelet_without_an_api_is_a_node_of_its_own() {
    let files = Files::new(&[("config.yaml", HEAD)]);
    let config = files.load(&[files.flag("config", "config.yaml")]);
    assert!(config.sections.standalone.is_some() && config.sections.api.is_none());
    assert!(files.load(&[]).sections.standalone.is_some(), "and without a file");
}

#[test]
fn drop_ins_and_the_operators_own_files_lie_over_it() {
    let low = format!("{HEAD}maxPods: 1\nclusterDNS: [10.0.0.1]\n");
    let files = Files::new(&[
        ("config.yaml", &low),
        ("drop/20.conf", &format!("{HEAD}maxPods: 3\n")),
        ("drop/10/a.conf", &format!("{HEAD}maxPods: 2\nclusterDomain: x\n")),
        ("drop/30.yaml", "not read"),
        ("witlet/conf.d/a.toml", "[dns]\ncluster_domain = \"y\"\n"),
    ]);
    let arguments = [
        files.flag("config", "config.yaml"),
        files.flag("config-dir", "drop"),
        "--kubeconfig=/k".into(),
    ];
    let sections = files.load(&arguments).sections;
    assert_eq!((sections.node.max_pods, sections.dns.cluster_domain.as_str()), (3, "y"));
    assert_eq!(sections.dns.cluster_dns.len(), 1);
}

#[test]
fn broken_files_are_named() {
    let files = Files::new(&[
        ("config.yaml", HEAD),
        ("empty.yaml", ""),
        ("drop/a.conf", "maxPods: 1\n"),
    ]);
    let error = |arguments: &[String]| files.translate(arguments).unwrap_err().join("; ");
    let empty = error(&[files.flag("config", "empty.yaml")]);
    assert!(
        empty.starts_with("failed to load kubelet config file, path: ") && empty.contains("empty.yaml"),
        "{empty}"
    );
    assert!(error(&[files.flag("config", "none.yaml")]).contains("No such file"));
    let dropped = error(&[files.flag("config", "config.yaml"), files.flag("config-dir", "drop")]);
    assert!(dropped.contains("a.conf: kind must be"), "{dropped}");
}

#[test]
fn what_is_not_followed_is_said() {
    let files = Files::new(&[("config.yaml", &format!("{HEAD}syncFrequency: 10s\nhairpinMode: none\n"))]);
    let translation = files
        .translate(&[files.flag("config", "config.yaml"), "--kubeconfig=/k".into()])
        .unwrap();
    let text = document(&translation);
    let not_followed = text.find("# These are not followed").unwrap();
    assert!(text.find("#   syncFrequency = 10s: ").unwrap() > not_followed, "{text}");
    assert!(text.find("#   hairpinMode = none: ").unwrap() > text.find("# These have no effect").unwrap());
    let table: toml::Table = toml::from_str(&text).unwrap();
    assert!(table.contains_key("api"));
}
