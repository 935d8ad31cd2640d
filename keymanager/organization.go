package keymanager

import "time"

// Meta is what every managed object has: when it was written, and a revision
// that grows by one with each change (the ETag of the management API).
type Meta struct {
	CreatedAt time.Time
	UpdatedAt time.Time
	Revision  int64
}

// Organization owns everything else: users, applications, APIs and tiers.
type Organization struct {
	ID          OrganizationID // also its name; immutable
	DisplayName string
	Meta
}

// PrimaryUserStore is the user-store domain of the key manager's own database.
const PrimaryUserStore = "PRIMARY"

// UserStatus says whether a user's credentials are honoured. The zero value
// is not active.
type UserStatus string

// The states of a user.
const (
	UserActive   UserStatus = "ACTIVE"
	UserDisabled UserStatus = "DISABLED"
)

// User is a person (or a service account) who owns applications. Its full name
// is DOMAIN/user, with the domain of the user store it lives in.
type User struct {
	ID           UserID
	Organization OrganizationID
	Name         string // unique in (Organization, UserStore)
	UserStore    string // upper case; PrimaryUserStore unless federated
	Email        string
	Status       UserStatus
	Meta
}

// FullName returns DOMAIN/user.
func (u *User) FullName() string { return u.UserStore + "/" + u.Name }

// UserType tells whom a token stands for.
type UserType string

// The user types of a token.
const (
	// UserTypeApplication: the application itself (client_credentials).
	UserTypeApplication UserType = "APPLICATION"
	// UserTypeApplicationUser: a user of the application.
	UserTypeApplicationUser UserType = "APPLICATION_USER"
)
