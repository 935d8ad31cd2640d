package db

// What the tests against a real server, in package db_test, share with those
// in this package.
var (
	CheckMigrate   = checkMigrate
	TestMigrations = testMigrations
)
