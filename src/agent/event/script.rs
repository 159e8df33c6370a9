//! Events from scripts and the desktop. All of them are one-shots: a snapshot repeats none, except indicators that are
//! lit.

use serde::de::DeserializeOwned;

use super::value::{body, words};

words! {
    /// The action (`ActionType` of `Indicator` and `RunApp`).
    pub enum ActionType {
        /// Run a program.
        RunExe = "RunExe",
        /// Open a page.
        OpenUrl = "OpenURL",
        /// Start a script.
        SpawnScript = "SpawnScript",
        /// Signal a script.
        SignalScript = "SignalScript",
        /// Show a form.
        ShowCustomForm = "ShowCustomForm",
    }
}

body! {
    /// `Indicator`: a script turns a lamp on or off.
    pub struct Indicator {
        /// The contact; absent for the agent's own indicator.
        contact_id: contact = "ContactID",
        /// Its name.
        name: text = "Name",
        /// The action when it is pressed; see [`action_type`](Self::action_type).
        action_type_text: text = "ActionType",
        /// The action's target.
        action_uri: text = "ActionUri",
        /// The lamp's image.
        image_uri: text = "ImageUri",
        /// The lamp's tooltip.
        tool_tip: text = "ToolTip",
        /// `On`, or anything else for off; see [`is_on`](Self::is_on).
        indicator_state: text = "IndicatorState",
    }

    /// `PageOpen`: a script opens a page (its action is called PAGEOPEN).
    pub struct PageOpen {
        /// The action.
        action: text = "Action",
        /// The contact.
        contact_id: contact = "ContactID",
        /// The page.
        page_uri: text = "PageUri",
    }

    /// `RunApp`: a script runs a program (its action is called RUNAPP).
    pub struct RunApp {
        /// See [`action_type`](Self::action_type).
        action_type_text: text = "ActionType",
        /// The action's target.
        action_value: text = "ActionValue",
        /// The contact.
        contact_id: contact = "ContactId",
        /// How long the script waits, in seconds.
        wait_timeout: int = "WaitTimeout",
    }

    /// `PopURL`: a script shows a page.
    pub struct PopUrl {
        /// The contact.
        contact_id: contact = "ContactId",
        /// The page.
        url: text = "URL",
        /// The title of its tab.
        tab_title: text = "TabTitle",
        /// Where to open it: `Default`, `ContactPanel`, …
        pop_destination: text = "PopDestination",
        /// The window's height, in pixels.
        popout_window_height: int = "PopoutWindowHeight",
        /// The window's width, in pixels.
        popout_window_width: int = "PopoutWindowWidth",
        /// Whether the page closes with the contact.
        close_popout_upon_termination: flag = "ClosePopoutUponTermination",
    }

    /// `CustomEvent`: a script's message to this program. Of several with the same name between two polls the service
    /// sends only the last one.
    pub struct CustomEvent {
        /// Its name; case matters. See [`reserved_name`](Self::reserved_name).
        name: text = "eventName",
        /// JSON, XML or text, as the script wrote it; see [`data_as`](Self::data_as).
        data: text_or_json = "data",
    }

    /// `AgentWorkflowConfiguration` and `AgentWorkflowCreatePayload`.
    pub struct AgentWorkflow {
        /// The contact.
        contact_id: contact = "contactId",
        /// The request; its form is not documented.
        request: json = "request",
    }

    /// `AgentAssist`.
    pub struct AgentAssist {
        /// The contact.
        contact_id: contact = "ContactId",
        /// The app.
        app_uri: text = "AppUri",
        /// Its title.
        app_title: text = "AppTitle",
        /// JSON: `WebSocketUri`, `Subscriptions`, `MediaType`, `Params.providerId`.
        config_json: text = "AgentAssistAppConfigJson",
    }

    /// `SmartReachValidation`.
    pub struct SmartReachValidation {
        /// The error.
        failure_code: text = "ValidationFailureCode",
        /// The key of the error's text.
        failure_localization_code: text = "ValidationFailureLocalizationCode",
        /// JSON: `toAddress`, `customerId`, `zipcode`.
        request_data: text = "RequestData",
    }

    /// `SupervisorContact`, `SupervisorMonitor`, `SupervisorTakeOver` and `TakeOver`
    /// (unofficial).
    pub struct Supervisor {
        /// The contact.
        contact_id: contact = "ContactID",
        /// A state of the call.
        status_text: text = "Status",
        /// `Monitor` or `StopMonitor`.
        monitor_type: text = "MonitorType",
    }

    /// An event that is known only by its name (unofficial): its fields are in
    /// [`AgentNotification::raw`](crate::agent::AgentNotification::raw).
    pub struct Undocumented {
        /// The contact, if the event names one.
        contact_id: contact = "ContactID" | "ContactId",
    }
}

/// The names of custom events that the platform itself uses. Their data is JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CustomEventName {
    /// `AgentWorkflowRequest`.
    AgentWorkflowRequest,
    /// `AgentWorkflowResponse`.
    AgentWorkflowResponse,
    /// `AgentWorkflowConfiguration`.
    AgentWorkflowConfiguration,
    /// `AgentWorkflowCreatePayload`.
    AgentWorkflowCreatePayload,
    /// `ScreenPopCustomSettings`.
    ScreenPopCustomSettings,
    /// `LOCALPOST`.
    LocalPost,
}

impl CustomEventName {
    const ALL: [Self; 6] = [
        Self::AgentWorkflowRequest,
        Self::AgentWorkflowResponse,
        Self::AgentWorkflowConfiguration,
        Self::AgentWorkflowCreatePayload,
        Self::ScreenPopCustomSettings,
        Self::LocalPost,
    ];

    /// The platform's spelling.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AgentWorkflowRequest => "AgentWorkflowRequest",
            Self::AgentWorkflowResponse => "AgentWorkflowResponse",
            Self::AgentWorkflowConfiguration => "AgentWorkflowConfiguration",
            Self::AgentWorkflowCreatePayload => "AgentWorkflowCreatePayload",
            Self::ScreenPopCustomSettings => "ScreenPopCustomSettings",
            Self::LocalPost => "LOCALPOST",
        }
    }
}

impl CustomEvent {
    /// The name, if it is one that the platform itself uses; otherwise the event is a script's own.
    #[must_use]
    pub fn reserved_name(&self) -> Option<CustomEventName> {
        let name = self.name.as_deref()?;
        CustomEventName::ALL.into_iter().find(|known| known.as_str() == name)
    }

    /// The data as a `T`, if it is JSON. Without data, it is read as `null`.
    ///
    /// # Errors
    /// If the data is not JSON, or not a `T`.
    pub fn data_as<T: DeserializeOwned>(&self) -> serde_json::Result<T> {
        serde_json::from_str(self.data.as_deref().unwrap_or("null"))
    }
}

impl Indicator {
    /// The action when it is pressed, if the event names it.
    #[must_use]
    pub fn action_type(&self) -> Option<ActionType> {
        self.action_type_text.as_deref().map(ActionType::from)
    }

    /// Whether it is lit.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.indicator_state.as_deref().is_some_and(|state| state.trim().eq_ignore_ascii_case("on"))
    }
}

impl RunApp {
    /// The action, if the event names it.
    #[must_use]
    pub fn action_type(&self) -> Option<ActionType> {
        self.action_type_text.as_deref().map(ActionType::from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reserved_names_are_read_as_they_are_written() {
        for name in CustomEventName::ALL {
            let event = CustomEvent { name: Some(name.as_str().to_owned()), data: None };
            assert_eq!(event.reserved_name(), Some(name));
        }
    }
}
