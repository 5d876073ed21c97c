package emulator

// Demo returns a small company to try things out in: two channels, a private one, a shared
// one, two user groups, and one person of every kind an approval must be careful about. The
// app's bot user must be U0BOT (the default) to be a member of the channels.
func Demo() Workspace {
	return Workspace{
		Users: []User{
			{ID: "U02ANA", Name: "ana", RealName: "Ana Reyes", Email: "ana@example.com", Title: "Payroll", Color: "#b4246e"},
			{ID: "U02BO", Name: "bo", RealName: "Bo Lindqvist", Email: "bo@example.com", Title: "Security", Color: "#0d8f76"},
			{ID: "U02CHEN", Name: "chen", RealName: "Chen Wei", Email: "chen@example.com", Title: "Security", Color: "#5b5bd6"},
			{ID: "U02DEV", Name: "dev", RealName: "Dev Patel", Email: "dev@example.com", Title: "On call", Color: "#c2410c"},
			{ID: "U02GUEST", Name: "gus", RealName: "Gus Guest", Email: "gus@contractor.example", IsRestricted: true, Color: "#7a5c00"},
			{ID: "U02EXT", Name: "erin", RealName: "Erin Partner", TeamID: "T0PARTNER", IsStranger: true, Color: "#2563a8"},
			{ID: "U02SKY", Name: "sky", RealName: "Sky Single", Email: "sky@contractor.example", IsRestricted: true, IsUltraRestricted: true, Color: "#7a5c00"},
			{ID: "U02MO", Name: "mo", RealName: "Mo Maybe", Email: "mo@example.com", EmailUnconfirmed: true, Title: "Billing", Color: "#7c3aed"},
			{ID: "U02CI", Name: "ci", RealName: "Build bot", IsBot: true, Color: "#334155"},
			{ID: "U02LEFT", Name: "lee", RealName: "Lee Former", Email: "lee@example.com", Deleted: true, Color: "#64748b"},
		},
		Channels: []Channel{
			{ID: "C01BILLING", Name: "billing-approvals", Topic: "Calls to billing that need a yes", Members: []string{"U0BOT", "U02ANA", "U02BO", "U02CHEN", "U02DEV"}},
			{ID: "C02GENERAL", Name: "general", Topic: "Company-wide", Members: []string{"U0BOT", "U02ANA", "U02BO", "U02CHEN", "U02DEV", "U02GUEST", "U02SKY", "U02MO", "U02CI"}},
			{ID: "C03SECURITY", Name: "security", Topic: "Security team only", Private: true, Members: []string{"U0BOT", "U02BO", "U02CHEN"}},
			{ID: "C04PARTNER", Name: "partner-shared", Topic: "Shared with Partner Inc.", ExtShared: true, ConnectedTeams: []string{"T0PARTNER"}, Members: []string{"U0BOT", "U02ANA", "U02EXT"}},
		},
		UserGroups: []UserGroup{
			{ID: "S0SECURITY", Handle: "security", Name: "Security", Members: []string{"U02BO", "U02CHEN"}},
			{ID: "S0ONCALL", Handle: "oncall", Name: "On call", Members: []string{"U02DEV"}},
		},
	}
}
