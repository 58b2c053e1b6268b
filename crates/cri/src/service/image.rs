//! `runtime.v1.ImageService`.

use std::collections::HashMap;
use std::sync::Arc;

use berth_cri_api::v1::image_service_server::ImageService;
use berth_cri_api::v1::*;
use berth_image::{Auth, ImageUser, PullRequest};
use serde_json::json;
use tonic::Request;

use super::streamed::{Parts, parts};
use super::{Answer, Services, answer};
use crate::engine::{blocking, now};
use crate::error::CriError;

fn image(found: &berth_image::Image) -> Image {
    let (uid, username) = match found.config.user_part() {
        ImageUser::Uid(uid) => (Some(Int64Value { value: uid.into() }), String::new()),
        ImageUser::Name(name) => (None, name),
    };
    Image {
        id: found.id.to_string(),
        repo_tags: found.repo_tags.clone(),
        repo_digests: found.repo_digests.clone(),
        size: found.size,
        uid,
        username,
        spec: Some(ImageSpec {
            image: found.id.to_string(),
            ..ImageSpec::default()
        }),
        pinned: found.pinned,
    }
}

fn reference(spec: Option<ImageSpec>) -> Result<String, CriError> {
    match spec {
        Some(spec) if !spec.image.is_empty() => Ok(spec.image),
        _ => Err(CriError::Invalid("the request names no image".to_owned())),
    }
}

impl Services {
    /// Those that a filter lets through.
    fn images(&self, filter: Option<ImageFilter>) -> Result<Vec<Image>, CriError> {
        let wanted = filter.and_then(|filter| filter.image).unwrap_or_default();
        let found = if wanted.image.is_empty() {
            self.engine.images.list()?
        } else {
            self.engine.images.get(&wanted.image)?.into_iter().collect()
        };
        Ok(found.iter().map(image).collect())
    }
}

#[tonic::async_trait]
impl ImageService for Services {
    type StreamImagesStream = Parts<StreamImagesResponse>;

    async fn list_images(&self, request: Request<ListImagesRequest>) -> Answer<ListImagesResponse> {
        let images = self.images(request.into_inner().filter)?;
        answer(ListImagesResponse { images })
    }

    async fn stream_images(
        &self,
        request: Request<StreamImagesRequest>,
    ) -> Answer<Self::StreamImagesStream> {
        let images = self.images(request.into_inner().filter)?;
        answer(parts(images, |images| StreamImagesResponse { images }))
    }

    async fn image_status(
        &self,
        request: Request<ImageStatusRequest>,
    ) -> Answer<ImageStatusResponse> {
        let request = request.into_inner();
        let reference = reference(request.image)?;
        let found = self.engine.images.get(&reference).map_err(CriError::from)?;
        let mut info = HashMap::new();
        if let Some(found) = found.as_ref().filter(|_| request.verbose) {
            let document = self.engine.images.config_document(&found.id);
            let spec = document
                .ok()
                .and_then(|text| serde_json::from_slice::<serde_json::Value>(&text).ok());
            let text = json!({
                "chainID": found.layers.last().map(ToString::to_string),
                "imageSpec": spec,
            });
            info.insert("info".to_owned(), text.to_string());
        }
        answer(ImageStatusResponse {
            image: found.as_ref().map(image),
            info,
        })
    }

    async fn pull_image(&self, request: Request<PullImageRequest>) -> Answer<PullImageResponse> {
        let config = request.get_ref().sandbox_config.as_ref();
        let pod = config.and_then(|config| config.metadata.clone());
        self.stage("PullImage", pod, request, |engine, request| async move {
            let handler = request
                .image
                .as_ref()
                .map(|image| image.runtime_handler.clone());
            let handler = handler.filter(|handler| !handler.is_empty());
            if let Some(handler) = &handler {
                engine.handlers.load().find(handler)?;
            }
            let reference = reference(request.image)?;
            let pull = PullRequest {
                reference: reference.clone(),
                auth: request.auth.map(|auth| Auth {
                    username: auth.username,
                    password: auth.password,
                    auth: auth.auth,
                    server_address: auth.server_address,
                    identity_token: auth.identity_token,
                    registry_token: auth.registry_token,
                }),
                platform: None,
                runtime_handler: handler,
            };
            let progress = Arc::new(move |step| tracing::debug!(image = reference, ?step, "pull"));
            let pulled = engine.images.pull(pull, progress).await?;
            let tags = pulled.repo_tags.join(", ");
            tracing::info!(id = %pulled.id, tags, "image pulled");
            Ok(PullImageResponse {
                image_ref: pulled.id.to_string(),
            })
        })
        .await
    }

    async fn remove_image(
        &self,
        request: Request<RemoveImageRequest>,
    ) -> Answer<RemoveImageResponse> {
        let reference = reference(request.into_inner().image)?;
        let images = self.engine.images.clone();
        blocking(move || Ok(images.remove(&reference)?)).await?;
        answer(RemoveImageResponse {})
    }

    async fn image_fs_info(&self, _: Request<ImageFsInfoRequest>) -> Answer<ImageFsInfoResponse> {
        let images = self.engine.images.clone();
        let info = blocking(move || Ok(images.fs_info()?)).await?;
        let usage = |usage: berth_image::Usage| FilesystemUsage {
            timestamp: now(),
            fs_id: Some(FilesystemIdentifier {
                mountpoint: info.root.to_string_lossy().into_owned(),
            }),
            used_bytes: Some(UInt64Value { value: usage.bytes }),
            inodes_used: Some(UInt64Value {
                value: usage.inodes,
            }),
        };
        answer(ImageFsInfoResponse {
            image_filesystems: vec![usage(info.images)],
            container_filesystems: vec![usage(info.containers)],
        })
    }
}
