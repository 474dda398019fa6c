//! Writing what happens to pods (the kubelet contract, pod 8.5).

use async_trait::async_trait;
use k8s_openapi::api::core::v1::{Pod, PodStatus};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use serde_json::json;
use witlet_core::desired::{ANNOTATION_CONFIG_MIRROR, annotation, key};
use witlet_core::ids::{PodKey, PodUid};
use witlet_ports::api::Pods;
use witlet_ports::{Class, Error, Result};

use crate::Client;
use crate::error::{Call, already_exists, is_about};
use crate::patch::{How, Merged, diff};

#[derive(Clone)]
pub struct PodWriter {
    client: Client,
}

/// The lists of a pod's status that merge. Those of containers are replaced as a whole.
const MERGED: [Merged; 3] = [
    Merged {
        field: "conditions",
        key: "type",
        how: How::Elements,
    },
    Merged {
        field: "podIPs",
        key: "ip",
        how: How::Whole,
    },
    Merged {
        field: "resourceClaimStatuses",
        key: "name",
        how: How::Elements,
    },
];

impl PodWriter {
    pub(crate) fn new(client: Client) -> Self {
        Self { client }
    }
}

#[async_trait]
impl Pods for PodWriter {
    async fn get(&self, key: &PodKey, uid: &PodUid) -> Result<Option<Pod>> {
        let api = self.client.namespaced::<Pod>(&key.namespace);
        let call = Call::new("get pod", key);
        let pod = self.client.request(call, api.get_opt(&key.name)).await?;
        Ok(pod.filter(|pod| pod.metadata.uid.as_deref() == Some(uid.as_str())))
    }

    async fn patch_status(&self, live: &Pod, status: &PodStatus) -> Result<Option<Pod>> {
        let before = live.status.clone().unwrap_or_default();
        let Some(changes) = diff(&before, status, &MERGED) else {
            return Ok(None);
        };
        // The API refuses the patch when the name stands for another pod by now.
        let patch = Patch::Strategic(json!({"metadata": {"uid": live.metadata.uid}, "status": changes}));
        let key = key(live);
        let api = self.client.namespaced::<Pod>(&key.namespace);
        let params = PatchParams::default();
        let request = api.patch_status(&key.name, &params, &patch);
        let result = self
            .client
            .request(Call::new("patch status of pod", &key), request)
            .await;
        match result {
            Err(e) if is_about(&e, "metadata.uid") => Err(Error::not_found(e.message)),
            other => other.map(Some),
        }
    }

    async fn annotate(&self, key: &PodKey, uid: &PodUid, annotation: &str, value: &str) -> Result<()> {
        let metadata = json!({"uid": uid.as_str(), "annotations": {annotation: value}});
        let patch = Patch::Strategic(json!({ "metadata": metadata }));
        let api = self.client.namespaced::<Pod>(&key.namespace);
        let params = PatchParams::default();
        let request = api.patch_status(&key.name, &params, &patch);
        let call = Call::new("annotate pod", key);
        match self.client.request(call, request).await {
            Err(e) if is_about(&e, "metadata.uid") => Err(Error::not_found(e.message)),
            other => other.map(drop),
        }
    }

    async fn delete(&self, key: &PodKey, uid: &PodUid, grace: i64) -> Result<()> {
        let api = self.client.namespaced::<Pod>(&key.namespace);
        let params = DeleteParams {
            grace_period_seconds: Some(u32::try_from(grace).unwrap_or(0)),
            preconditions: Some(Preconditions {
                uid: Some(uid.as_str().to_owned()),
                resource_version: None,
            }),
            ..DeleteParams::default()
        };
        match self
            .client
            .request(Call::new("delete pod", key), api.delete(&key.name, &params))
            .await
        {
            // The name is free, or another pod's.
            Err(e) if matches!(e.class, Class::NotFound | Class::Conflict) => Ok(()),
            result => result.map(drop),
        }
    }

    async fn create_mirror(&self, pod: &Pod) -> Result<()> {
        let key = key(pod);
        let api = self.client.namespaced::<Pod>(&key.namespace);
        let params = PostParams::default();
        let error = match self
            .client
            .request(Call::new("create mirror pod", &key), api.create(&params, pod))
            .await
        {
            Ok(_) => return Ok(()),
            Err(error) if already_exists(&error) => error,
            Err(error) => return Err(error),
        };
        let there = self
            .client
            .request(Call::new("get mirror pod", &key), api.get_opt(&key.name))
            .await?;
        let hash = |pod: &Pod| annotation(pod, ANNOTATION_CONFIG_MIRROR).map(str::to_owned);
        match there {
            Some(there) if hash(&there).is_some() && hash(&there) == hash(pod) => Ok(()),
            _ => Err(Error::new(
                Class::Conflict,
                format!("another pod {key} is in the way of the mirror pod"),
            )
            .with_source(error)),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use serde_json::Value;

    use super::*;
    use crate::mock::{Mock, failure};

    fn pod(value: Value) -> Pod {
        serde_json::from_value(value).unwrap()
    }

    fn web() -> Pod {
        pod(
            json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web", "namespace": "default", "uid": "u1"},
            "status": {"phase": "Pending"}}),
        )
    }

    fn key_of_web() -> PodKey {
        PodKey {
            namespace: "default".into(),
            name: "web".into(),
        }
    }

    #[tokio::test]
    async fn another_pod_of_the_name_is_not_the_pod() {
        let mock = Mock::new(|_| (200, serde_json::to_value(web()).unwrap()));
        let pods = mock.client().pods();
        assert!(pods.get(&key_of_web(), &"u1".into()).await.unwrap().is_some());
        assert!(pods.get(&key_of_web(), &"u2".into()).await.unwrap().is_none());
        let gone = Mock::new(|_| failure(404, "NotFound", "pods \"web\" not found"));
        assert!(
            gone.client()
                .pods()
                .get(&key_of_web(), &"u1".into())
                .await
                .unwrap()
                .is_none()
        );
    }

    #[tokio::test]
    async fn a_status_is_patched_with_its_differences_and_the_uid() {
        let mock = Mock::new(|_| (200, serde_json::to_value(web()).unwrap()));
        let pods = mock.client().pods();
        pods.patch_status(&web(), &web().status.unwrap()).await.unwrap();
        assert!(mock.requests().is_empty(), "no differences, no request");
        let status: PodStatus = serde_json::from_value(json!({"phase": "Running", "podIP": "1.2.3.4"})).unwrap();
        pods.patch_status(&web(), &status).await.unwrap();
        let [request] = mock.requests().try_into().unwrap();
        assert_eq!(request.line(), "PATCH /api/v1/namespaces/default/pods/web/status");
        assert_eq!(request.content_type, "application/strategic-merge-patch+json");
        let expected = json!({"metadata": {"uid": "u1"}, "status": {"phase": "Running", "podIP": "1.2.3.4"}});
        assert_eq!(request.body, expected);
    }

    /// A pod of a StatefulSet follows the one before under the same name.
    #[tokio::test]
    async fn a_status_is_not_written_to_another_pod_of_the_name() {
        let words = "Pod \"web\" is invalid: metadata.uid: Invalid value: \"u1\": field is immutable";
        for (field, class) in [("metadata.uid", Class::NotFound), ("status.podIPs[1]", Class::Terminal)] {
            let mock = Mock::new(move |_| {
                let (code, mut body) = failure(422, "Invalid", words);
                let cause = json!({"reason": "FieldValueInvalid", "message": "no", "field": field});
                body["details"] = json!({"name": "web", "kind": "Pod", "causes": [cause]});
                (code, body)
            });
            let status: PodStatus = serde_json::from_value(json!({"phase": "Running"})).unwrap();
            let error = mock.client().pods().patch_status(&web(), &status).await.unwrap_err();
            assert_eq!((error.class, error.message.as_str()), (class, words), "{field}");
        }
    }

    #[tokio::test]
    async fn deleting_names_the_uid_and_what_is_gone_is_gone() {
        for (code, reason, fine) in [
            (200, "", true),
            (404, "NotFound", true),
            (409, "Conflict", true),
            (403, "Forbidden", false),
        ] {
            let mock = Mock::new(move |_| {
                if code == 200 {
                    (200, serde_json::to_value(web()).unwrap())
                } else {
                    failure(code, reason, "no")
                }
            });
            let result = mock.client().pods().delete(&key_of_web(), &"u1".into(), 7).await;
            assert_eq!(result.is_ok(), fine, "{code}");
            let [request] = mock.requests().try_into().unwrap();
            assert_eq!(request.line(), "DELETE /api/v1/namespaces/default/pods/web");
            assert_eq!(request.body["gracePeriodSeconds"], 7);
            assert_eq!(request.body["preconditions"]["uid"], "u1");
        }
    }

    #[tokio::test]
    async fn an_equal_mirror_that_exists_is_success() {
        let mirror = |hash: &str| {
            let mut pod = web();
            pod.metadata.annotations = Some([(ANNOTATION_CONFIG_MIRROR.to_owned(), hash.to_owned())].into());
            pod
        };
        let there = serde_json::to_value(mirror("h1")).unwrap();
        let mock = Mock::new(move |request| match request.method.as_str() {
            "POST" => failure(409, "AlreadyExists", "pods \"web\" already exists"),
            _ => (200, there.clone()),
        });
        let pods = mock.client().pods();
        pods.create_mirror(&mirror("h1")).await.unwrap();
        assert_eq!(
            pods.create_mirror(&mirror("h2")).await.unwrap_err().class,
            Class::Conflict
        );
    }

    #[tokio::test]
    async fn errors_have_the_apis_words_and_a_class() {
        for (code, class) in [
            (401, Class::Denied),
            (403, Class::Denied),
            (409, Class::Conflict),
            (422, Class::Terminal),
            (429, Class::Retry),
            (500, Class::Retry),
        ] {
            let mock = Mock::new(move |_| failure(code, "X", "the API's words"));
            let error = mock.client().pods().get(&key_of_web(), &"u1".into()).await.unwrap_err();
            assert_eq!(
                (error.class, error.message.as_str()),
                (class, "the API's words"),
                "{code}"
            );
        }
    }
}
