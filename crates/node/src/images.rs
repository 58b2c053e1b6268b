//! Images: is one there, pull it with the pod's secrets, what the node holds.

mod auth;

use berth_cri_api::v1::{
    Image as CriImage, ImageSpec, ImageStatusRequest, ListImagesRequest, PodSandboxConfig,
    PullImageRequest,
};
use k8s_openapi::api::core::v1::{ContainerImage, Pod};
use tracing::debug;

use crate::container_config::ImageUser;
use crate::cri::Cri;
use crate::objects::Objects;

/// At most this many images are reported in the Node's status.
const REPORTED: usize = 50;

/// An image that the runtime holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Image {
    /// What containers are created from.
    pub(crate) id: String,
    pub(crate) user: ImageUser,
}

/// The image service, with what pulling needs.
#[derive(Clone)]
pub(crate) struct Images {
    cri: Cri,
    objects: Objects,
}

/// Adds `:latest` to a name without tag and digest.
pub(crate) fn with_tag(image: &str) -> String {
    let last = image.rsplit('/').next().unwrap_or(image);
    if last.contains(':') || image.contains('@') {
        image.to_owned()
    } else {
        format!("{image}:latest")
    }
}

fn spec(image: &str, handler: &str) -> ImageSpec {
    ImageSpec {
        image: with_tag(image),
        user_specified_image: image.to_owned(),
        runtime_handler: handler.to_owned(),
        ..ImageSpec::default()
    }
}

fn convert(image: CriImage) -> Image {
    Image {
        id: image.id,
        user: ImageUser {
            uid: image.uid.map(|u| u.value),
            name: image.username,
        },
    }
}

impl Images {
    pub(crate) fn new(cri: Cri, objects: Objects) -> Self {
        Self { cri, objects }
    }

    /// The image, if the runtime has it.
    pub(crate) async fn present(
        &self,
        image: &str,
        handler: &str,
    ) -> Result<Option<Image>, tonic::Status> {
        let request = ImageStatusRequest {
            image: Some(spec(image, handler)),
            verbose: false,
        };
        let answer = self.cri.images().image_status(request).await?;
        Ok(answer.into_inner().image.map(convert))
    }

    /// Pulls with each of the pod's matching credentials, and without any last.
    pub(crate) async fn pull(
        &self,
        pod: &Pod,
        image: &str,
        handler: &str,
        sandbox: Option<PodSandboxConfig>,
    ) -> Result<Image, tonic::Status> {
        let mut last = None;
        let mut tries: Vec<_> = auth::credentials(&self.objects, pod, image)
            .await
            .into_iter()
            .map(Some)
            .collect();
        tries.push(None);
        for auth in tries {
            let request = PullImageRequest {
                image: Some(spec(image, handler)),
                auth,
                sandbox_config: sandbox.clone(),
            };
            match self.cri.images().pull_image(request).await {
                Ok(answer) => {
                    let id = answer.into_inner().image_ref;
                    let user = self.present(image, handler).await.ok().flatten();
                    return Ok(user.unwrap_or(Image {
                        id,
                        user: ImageUser::default(),
                    }));
                }
                Err(e) => last = Some(e),
            }
        }
        Err(last.unwrap_or_else(|| tonic::Status::internal("no pull was tried")))
    }

    /// The largest images, as the Node's status lists them.
    pub(crate) async fn list_for_node(&self) -> Vec<ContainerImage> {
        let answer = match self
            .cri
            .images()
            .list_images(ListImagesRequest { filter: None })
            .await
        {
            Ok(answer) => answer.into_inner(),
            Err(error) => {
                debug!(%error, "ListImages");
                return Vec::new();
            }
        };
        let mut images = answer.images;
        images.sort_by(|a, b| b.size.cmp(&a.size).then_with(|| a.id.cmp(&b.id)));
        images
            .into_iter()
            .take(REPORTED)
            .map(|i| {
                let mut names = i.repo_digests;
                names.extend(i.repo_tags);
                ContainerImage {
                    names: Some(names),
                    size_bytes: i64::try_from(i.size).ok(),
                }
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::with_tag;

    #[test]
    fn a_name_without_tag_means_latest() {
        for (given, want) in [
            ("busybox", "busybox:latest"),
            ("busybox:1", "busybox:1"),
            ("localhost:5000/x", "localhost:5000/x:latest"),
            ("localhost:5000/x:2", "localhost:5000/x:2"),
            ("x@sha256:00", "x@sha256:00"),
        ] {
            assert_eq!(with_tag(given), want);
        }
    }
}
