//! What a model can do, as far as somebody has said so.

use agentos_wire::Needs;
use serde::{Deserialize, Serialize};

macro_rules! capabilities {
    ($($name:ident = $field:ident: $text:literal,)*) => {
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        pub enum Capability {
            $($name,)*
        }

        impl Capability {
            pub const ALL: &[Capability] = &[$(Capability::$name,)*];

            /// In messages.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Capability::$name => $text,)*
                }
            }
        }

        /// `None`: nobody has said it. Then the provider is asked, since it refuses what it cannot do.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(deny_unknown_fields)]
        pub struct Capabilities {
            $(#[serde(default, skip_serializing_if = "Option::is_none")] pub $field: Option<bool>,)*
        }

        impl Capabilities {
            pub fn get(&self, capability: Capability) -> Option<bool> {
                match capability {
                    $(Capability::$name => self.$field,)*
                }
            }

            pub fn set(&mut self, capability: Capability, can: bool) {
                match capability {
                    $(Capability::$name => self.$field = Some(can),)*
                }
            }
        }
    };
}

capabilities! {
    Tools = tools: "tools",
    ParallelTools = parallel_tools: "parallel tools",
    Images = images: "images",
    JsonSchema = json_schema: "json schema",
    Thinking = thinking: "thinking",
    Prefill = prefill: "assistant prefill",
    Audio = audio: "audio",
    Files = files: "files",
}

impl Capabilities {
    /// These, with what is said in `over` instead.
    #[must_use]
    pub fn with(mut self, over: &Capabilities) -> Self {
        for capability in Capability::ALL {
            if let Some(can) = over.get(*capability) {
                self.set(*capability, can);
            }
        }
        self
    }

    /// What a request needs of those that this table knows.
    pub fn needed(needs: &Needs) -> impl Iterator<Item = Capability> {
        [
            (needs.tools, Capability::Tools),
            (needs.images, Capability::Images),
            (needs.json_schema, Capability::JsonSchema),
            (needs.thinking, Capability::Thinking),
            (needs.audio, Capability::Audio),
            (needs.files, Capability::Files),
        ]
        .into_iter()
        .filter_map(|(needed, capability)| needed.then_some(capability))
    }
}
