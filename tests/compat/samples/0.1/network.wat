(component
  (type $ty-witlet:base/types@0.1.0 (;0;)
    (instance
      (type (;0;) (variant (case "invalid" string) (case "not-found" string) (case "denied" string) (case "unavailable" string) (case "timeout" string) (case "failed" string) (case "other" string)))
      (export (;1;) "error" (type (eq 0)))
    )
  )
  (import "witlet:base/types@0.1.0" (instance $witlet:base/types@0.1.0 (;0;) (type $ty-witlet:base/types@0.1.0)))
  (type $ty-witlet:network/exec@0.1.0 (;1;)
    (instance
      (type (;0;) (list string))
      (type (;1;) (tuple string string))
      (type (;2;) (list 1))
      (type (;3;) (list u8))
      (type (;4;) (record (field "program" string) (field "args" 0) (field "env" 2) (field "stdin" 3)))
      (export (;5;) "command" (type (eq 4)))
    )
  )
  (import "witlet:network/exec@0.1.0" (instance $witlet:network/exec@0.1.0 (;1;) (type $ty-witlet:network/exec@0.1.0)))
  (type $ty-witlet:base/objects@0.1.0 (;2;)
    (instance
      (export (;0;) "pod" (type (sub resource)))
    )
  )
  (import "witlet:base/objects@0.1.0" (instance $witlet:base/objects@0.1.0 (;2;) (type $ty-witlet:base/objects@0.1.0)))
  (type $ty-witlet:network/sandboxes@0.1.0 (;3;)
    (instance
      (export (;0;) "sandbox" (type (sub resource)))
    )
  )
  (import "witlet:network/sandboxes@0.1.0" (instance $witlet:network/sandboxes@0.1.0 (;3;) (type $ty-witlet:network/sandboxes@0.1.0)))
  (core module $main (;0;)
    (type (;0;) (func (param i32)))
    (type (;1;) (func (param i32 i32 i32 i32) (result i32)))
    (type (;2;) (func (param i32 i32 i32) (result i32)))
    (type (;3;) (func (param i32) (result i32)))
    (type (;4;) (func (param i32 i32) (result i32)))
    (type (;5;) (func (result i32)))
    (import "witlet:base/objects@0.1.0" "[resource-drop]pod" (func $drop-pod (;0;) (type 0)))
    (import "witlet:network/sandboxes@0.1.0" "[resource-drop]sandbox" (func $drop-sandbox (;1;) (type 0)))
    (memory (;0;) 2)
    (global $heap (;0;) (mut i32) i32.const 8192)
    (export "memory" (memory 0))
    (export "cabi_realloc" (func 2))
    (export "witlet:network/driver@0.1.0#setup" (func 5))
    (export "witlet:network/driver@0.1.0#teardown" (func 7))
    (export "witlet:network/driver@0.1.0#check" (func 8))
    (export "witlet:network/driver@0.1.0#status" (func 9))
    (func (;2;) (type 1) (param i32 i32 i32) (param $size i32) (result i32)
      (local $at i32)
      global.get $heap
      i32.const 7
      i32.add
      i32.const -8
      i32.and
      local.set $at
      local.get $at
      local.get $size
      i32.add
      global.set $heap
      block $fits
        global.get $heap
        memory.size
        i32.const 65536
        i32.mul
        i32.le_u
        br_if $fits
        local.get $size
        i32.const 65536
        i32.div_u
        i32.const 1
        i32.add
        memory.grow
        drop
      end
      local.get $at
    )
    (func $error (;3;) (type 2) (param $case i32) (param $at i32) (param $len i32) (result i32)
      i32.const 1024
      i32.const 1
      i32.store8
      i32.const 1028
      local.get $case
      i32.store8
      i32.const 1032
      local.get $at
      i32.store
      i32.const 1036
      local.get $len
      i32.store
      i32.const 1024
    )
    (func $recurse (;4;) (type 3) (param i32) (result i32)
      local.get 0
      i32.const 1
      i32.add
      call $recurse
      i32.const 1
      i32.add
    )
    (func (;5;) (type 2) (param $some i32) (param $pod i32) (param $sandbox i32) (result i32)
      local.get $some
      if ;; label = @1
        local.get $pod
        call $drop-pod
      end
      local.get $sandbox
      call $drop-sandbox
      i32.const 700
      i32.const 512
      i32.store
      i32.const 704
      i32.const 9
      i32.store
      i32.const 1024
      i32.const 0
      i32.store8
      i32.const 1028
      i32.const 256
      i32.store
      i32.const 1032
      i32.const 22
      i32.store
      i32.const 1036
      i32.const 600
      i32.store
      i32.const 1040
      i32.const 4
      i32.store
      i32.const 1044
      i32.const 700
      i32.store
      i32.const 1048
      i32.const 1
      i32.store
      i32.const 1024
    )
    (func $with-state (;6;) (type 4) (param $sandbox i32) (param $some i32) (result i32)
      local.get $sandbox
      call $drop-sandbox
      local.get $some
      i32.eqz
      if ;; label = @1
        i32.const 0
        i32.const 620
        i32.const 8
        call $error
        return
      end
      i32.const 1024
      i32.const 0
      i32.store8
      i32.const 1024
    )
    (func (;7;) (type 1) (param $sandbox i32) (param $some i32) (param i32 i32) (result i32)
      local.get $sandbox
      local.get $some
      call $with-state
    )
    (func (;8;) (type 1) (param $sandbox i32) (param $some i32) (param i32 i32) (result i32)
      local.get $sandbox
      local.get $some
      call $with-state
    )
    (func (;9;) (type 5) (result i32)
      i32.const 1024
      i32.const 0
      i32.store8
      i32.const 1024
    )
    (data (;0;) (i32.const 256) "{\22cniVersion\22:\221.0.0\22}")
    (data (;1;) (i32.const 512) "/bin/true")
    (data (;2;) (i32.const 600) "kept")
    (data (;3;) (i32.const 620) "no state")
    (@custom "witlet:manifest" (after data) "{\22capabilities\22:[\22exec\22],\22kind\22:\22network\22,\22name\22:\22test\22,\22sdk\22:\22none\22,\22state_version\22:0,\22track\22:\220.1\22,\22version\22:\221.0.0\22}")
    (@producers
      (processed-by "wit-component" "0.254.2")
    )
  )
  (alias export $witlet:base/types@0.1.0 "error" (type $error (;4;)))
  (alias export $witlet:base/objects@0.1.0 "pod" (type $pod (;5;)))
  (alias export $witlet:network/sandboxes@0.1.0 "sandbox" (type $sandbox (;6;)))
  (alias export $witlet:network/exec@0.1.0 "command" (type $command (;7;)))
  (type (;8;) (list $command))
  (type (;9;) (record (field "cni-result" string) (field "state" string) (field "offline-teardown" 8)))
  (alias export $witlet:base/objects@0.1.0 "pod" (type $"#type10 pod" (@name "pod") (;10;)))
  (core func $resource.drop (;0;) (canon resource.drop $"#type10 pod"))
  (core instance $witlet:base/objects@0.1.0 (;0;)
    (export "[resource-drop]pod" (func $resource.drop))
  )
  (alias export $witlet:network/sandboxes@0.1.0 "sandbox" (type $"#type11 sandbox" (@name "sandbox") (;11;)))
  (core func $"#core-func1 resource.drop" (@name "resource.drop") (;1;) (canon resource.drop $"#type11 sandbox"))
  (core instance $witlet:network/sandboxes@0.1.0 (;1;)
    (export "[resource-drop]sandbox" (func $"#core-func1 resource.drop"))
  )
  (core instance $main (;2;) (instantiate $main
      (with "witlet:base/objects@0.1.0" (instance $witlet:base/objects@0.1.0))
      (with "witlet:network/sandboxes@0.1.0" (instance $witlet:network/sandboxes@0.1.0))
    )
  )
  (alias core export $main "memory" (core memory $memory (;0;)))
  (type (;12;) (borrow $pod))
  (type (;13;) (option 12))
  (type (;14;) (borrow $sandbox))
  (type (;15;) (result 9 (error $error)))
  (type (;16;) (func (param "pod" 13) (param "sandbox" 14) (result 15)))
  (alias core export $main "witlet:network/driver@0.1.0#setup" (core func $witlet:network/driver@0.1.0#setup (;2;)))
  (alias core export $main "cabi_realloc" (core func $cabi_realloc (;3;)))
  (func $setup (;0;) (type 16) (canon lift (core func $witlet:network/driver@0.1.0#setup) (memory $memory) string-encoding=utf8))
  (type (;17;) (option string))
  (type (;18;) (result (error $error)))
  (type (;19;) (func (param "sandbox" 14) (param "state" 17) (result 18)))
  (alias core export $main "witlet:network/driver@0.1.0#teardown" (core func $witlet:network/driver@0.1.0#teardown (;4;)))
  (func $teardown (;1;) (type 19) (canon lift (core func $witlet:network/driver@0.1.0#teardown) (memory $memory) (realloc $cabi_realloc) string-encoding=utf8))
  (alias core export $main "witlet:network/driver@0.1.0#check" (core func $witlet:network/driver@0.1.0#check (;5;)))
  (func $check (;2;) (type 19) (canon lift (core func $witlet:network/driver@0.1.0#check) (memory $memory) (realloc $cabi_realloc) string-encoding=utf8))
  (type (;20;) (func (result 18)))
  (alias core export $main "witlet:network/driver@0.1.0#status" (core func $witlet:network/driver@0.1.0#status (;6;)))
  (func $status (;3;) (type 20) (canon lift (core func $witlet:network/driver@0.1.0#status) (memory $memory) string-encoding=utf8))
  (component $witlet:network/driver@0.1.0-shim-component (;0;)
    (type (;0;) (variant (case "invalid" string) (case "not-found" string) (case "denied" string) (case "unavailable" string) (case "timeout" string) (case "failed" string) (case "other" string)))
    (import "import-type-error" (type (;1;) (eq 0)))
    (import "import-type-pod" (type (;2;) (sub resource)))
    (import "import-type-sandbox" (type (;3;) (sub resource)))
    (type (;4;) (list string))
    (type (;5;) (tuple string string))
    (type (;6;) (list 5))
    (type (;7;) (list u8))
    (type (;8;) (record (field "program" string) (field "args" 4) (field "env" 6) (field "stdin" 7)))
    (import "import-type-command" (type (;9;) (eq 8)))
    (import "import-type-pod0" (type (;10;) (eq 2)))
    (type (;11;) (borrow 10))
    (type (;12;) (option 11))
    (import "import-type-sandbox0" (type (;13;) (eq 3)))
    (type (;14;) (borrow 13))
    (import "import-type-command0" (type (;15;) (eq 9)))
    (type (;16;) (list 15))
    (type (;17;) (record (field "cni-result" string) (field "state" string) (field "offline-teardown" 16)))
    (import "import-type-attachment" (type (;18;) (eq 17)))
    (import "import-type-error0" (type (;19;) (eq 1)))
    (type (;20;) (result 18 (error 19)))
    (type (;21;) (func (param "pod" 12) (param "sandbox" 14) (result 20)))
    (import "import-func-setup" (func (;0;) (type 21)))
    (type (;22;) (option string))
    (type (;23;) (result (error 19)))
    (type (;24;) (func (param "sandbox" 14) (param "state" 22) (result 23)))
    (import "import-func-teardown" (func (;1;) (type 24)))
    (import "import-func-check" (func (;2;) (type 24)))
    (type (;25;) (func (result 23)))
    (import "import-func-status" (func (;3;) (type 25)))
    (export (;26;) "error" (type 1))
    (export (;27;) "pod" (type 2))
    (export (;28;) "sandbox" (type 3))
    (export (;29;) "command" (type 9))
    (type (;30;) (list 29))
    (type (;31;) (record (field "cni-result" string) (field "state" string) (field "offline-teardown" 30)))
    (export (;32;) "attachment" (type 31))
    (type (;33;) (borrow 27))
    (type (;34;) (option 33))
    (type (;35;) (borrow 28))
    (type (;36;) (result 32 (error 26)))
    (type (;37;) (func (param "pod" 34) (param "sandbox" 35) (result 36)))
    (export (;4;) "setup" (func 0) (func (type 37)))
    (type (;38;) (option string))
    (type (;39;) (result (error 26)))
    (type (;40;) (func (param "sandbox" 35) (param "state" 38) (result 39)))
    (export (;5;) "teardown" (func 1) (func (type 40)))
    (export (;6;) "check" (func 2) (func (type 40)))
    (type (;41;) (func (result 39)))
    (export (;7;) "status" (func 3) (func (type 41)))
  )
  (instance $witlet:network/driver@0.1.0-shim-instance (;4;) (instantiate $witlet:network/driver@0.1.0-shim-component
      (with "import-func-setup" (func $setup))
      (with "import-func-teardown" (func $teardown))
      (with "import-func-check" (func $check))
      (with "import-func-status" (func $status))
      (with "import-type-error" (type $error))
      (with "import-type-pod" (type $pod))
      (with "import-type-sandbox" (type $sandbox))
      (with "import-type-command" (type $command))
      (with "import-type-pod0" (type $pod))
      (with "import-type-sandbox0" (type $sandbox))
      (with "import-type-command0" (type $command))
      (with "import-type-attachment" (type 9))
      (with "import-type-error0" (type $error))
    )
  )
  (export $witlet:network/driver@0.1.0 (;5;) "witlet:network/driver@0.1.0" (instance $witlet:network/driver@0.1.0-shim-instance))
  (@producers
    (processed-by "wit-component" "0.254.2")
  )
)
