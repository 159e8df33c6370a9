//! Events that scripts and the desktop make. All of them are one-shots: none is told
//! again in a snapshot, except indicators that are lit.

use super::value::{body, words};

words! {
    /// What is to be done (`ActionType` of `Indicator` and `RunApp`).
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
    /// `Indicator`: a lamp of a script is lit or put out.
    pub struct Indicator {
        /// The contact; none for the agent's own.
        contact_id: text = "ContactID",
        /// Its name.
        name: text = "Name",
        /// What happens when it is pressed; see [`action_type`](Self::action_type).
        action_type_text: text = "ActionType",
        /// What of it.
        action_uri: text = "ActionUri",
        /// What it looks like.
        image_uri: text = "ImageUri",
        /// What is said about it.
        tool_tip: text = "ToolTip",
        /// `On`, or anything else for off; see [`is_on`](Self::is_on).
        indicator_state: text = "IndicatorState",
    }

    /// `PageOpen`: a script opens a page (its action is called PAGEOPEN).
    pub struct PageOpen {
        /// What to do.
        action: text = "Action",
        /// The contact.
        contact_id: text = "ContactID",
        /// The page.
        page_uri: text = "PageUri",
    }

    /// `RunApp`: a script runs something (its action is called RUNAPP).
    pub struct RunApp {
        /// See [`action_type`](Self::action_type).
        action_type_text: text = "ActionType",
        /// What of it.
        action_value: text = "ActionValue",
        /// The contact.
        contact_id: text = "ContactId",
        /// How long the script waits, in seconds.
        wait_timeout: int = "WaitTimeout",
    }

    /// `PopURL`: a script shows a page.
    pub struct PopUrl {
        /// The contact.
        contact_id: text = "ContactId",
        /// The page.
        url: text = "URL",
        /// Under which title.
        tab_title: text = "TabTitle",
        /// And where: `Default`, `ContactPanel`, …
        pop_destination: text = "PopDestination",
        /// In pixels.
        popout_window_height: int = "PopoutWindowHeight",
        /// In pixels.
        popout_window_width: int = "PopoutWindowWidth",
        /// Whether it is closed with the contact.
        close_popout_upon_termination: flag = "ClosePopoutUponTermination",
    }

    /// `CustomEvent`: what a script says to this program. Of those with the same name
    /// between two polls the service hands out the last one only.
    pub struct CustomEvent {
        /// Its name; case matters.
        name: text = "eventName",
        /// JSON, XML or text, as the script wrote it.
        data: text = "data",
    }

    /// `AgentWorkflowConfiguration` and `AgentWorkflowCreatePayload`.
    pub struct AgentWorkflow {
        /// The contact.
        contact_id: text = "contactId",
        /// What is asked for; its form is not documented.
        request: json = "request",
    }

    /// `AgentAssist`.
    pub struct AgentAssist {
        /// The contact.
        contact_id: text = "ContactId",
        /// The app.
        app_uri: text = "AppUri",
        /// Its title.
        app_title: text = "AppTitle",
        /// JSON: `WebSocketUri`, `Subscriptions`, `MediaType`, `Params.providerId`.
        config_json: text = "AgentAssistAppConfigJson",
    }

    /// `SmartReachValidation`.
    pub struct SmartReachValidation {
        /// What is wrong.
        failure_code: text = "ValidationFailureCode",
        /// The name of its text.
        failure_localization_code: text = "ValidationFailureLocalizationCode",
        /// JSON: `toAddress`, `customerId`, `zipcode`.
        request_data: text = "RequestData",
    }

    /// `SupervisorContact`, `SupervisorMonitor`, `SupervisorTakeOver` and `TakeOver`
    /// (unofficial).
    pub struct Supervisor {
        /// The contact.
        contact_id: text = "ContactID",
        /// A state of the call.
        status_text: text = "Status",
        /// `Monitor` or `StopMonitor`.
        monitor_type: text = "MonitorType",
    }

    /// An event of which no more than its name is known (unofficial): its fields are in
    /// [`AgentNotification::raw`](crate::agent::AgentNotification::raw).
    pub struct Undocumented {
        /// The contact, where one is named.
        contact_id: text = "ContactID" | "ContactId",
    }
}

impl Indicator {
    /// What happens when it is pressed, if it is told.
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
    /// What is to be done, if it is told.
    #[must_use]
    pub fn action_type(&self) -> Option<ActionType> {
        self.action_type_text.as_deref().map(ActionType::from)
    }
}
