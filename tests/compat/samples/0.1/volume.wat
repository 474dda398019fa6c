(component
  (type $ty-witlet:base/types@0.1.0 (;0;)
    (instance
      (type (;0;) (variant (case "invalid" string) (case "not-found" string) (case "denied" string) (case "unavailable" string) (case "timeout" string) (case "failed" string) (case "other" string)))
      (export (;1;) "error" (type (eq 0)))
    )
  )
  (import "witlet:base/types@0.1.0" (instance $witlet:base/types@0.1.0 (;0;) (type $ty-witlet:base/types@0.1.0)))
  (alias export $witlet:base/types@0.1.0 "error" (type $error (;1;)))
  (type $ty-witlet:volume/files@0.1.0 (;2;)
    (instance
      (export (;0;) "volume-dir" (type (sub resource)))
      (alias outer 1 $error (type (;1;)))
      (export (;2;) "error" (type (eq 1)))
      (type (;3;) (borrow 0))
      (type (;4;) (result (error 2)))
      (type (;5;) (func (param "self" 3) (param "mode" u32) (result 4)))
      (export (;0;) "[method]volume-dir.create" (func (type 5)))
      (type (;6;) (func (param "self" 3) (result 4)))
      (export (;1;) "[method]volume-dir.destroy" (func (type 6)))
      (type (;7;) (func (param "self" 3) (param "ready" bool) (result 4)))
      (export (;2;) "[method]volume-dir.set-ready" (func (type 7)))
      (type (;8;) (list u8))
      (type (;9;) (func (param "self" 3) (param "path" string) (param "data" 8) (param "mode" u32) (result 4)))
      (export (;3;) "[method]volume-dir.write" (func (type 9)))
    )
  )
  (import "witlet:volume/files@0.1.0" (instance $witlet:volume/files@0.1.0 (;1;) (type $ty-witlet:volume/files@0.1.0)))
  (type $ty-witlet:base/objects@0.1.0 (;3;)
    (instance
      (export (;0;) "pod" (type (sub resource)))
    )
  )
  (import "witlet:base/objects@0.1.0" (instance $witlet:base/objects@0.1.0 (;2;) (type $ty-witlet:base/objects@0.1.0)))
  (core module $main (;0;)
    (type (;0;) (func (param i32)))
    (type (;1;) (func (param i32 i32 i32)))
    (type (;2;) (func (param i32 i32 i32 i32 i32 i32 i32)))
    (type (;3;) (func (param i32 i32)))
    (type (;4;) (func (param i32 i32 i32 i32) (result i32)))
    (type (;5;) (func (param i32 i32 i32) (result i32)))
    (type (;6;) (func (param i32) (result i32)))
    (import "witlet:base/objects@0.1.0" "[resource-drop]pod" (func $drop-pod (;0;) (type 0)))
    (import "witlet:volume/files@0.1.0" "[resource-drop]volume-dir" (func $drop-dir (;1;) (type 0)))
    (import "witlet:volume/files@0.1.0" "[method]volume-dir.create" (func $create (;2;) (type 1)))
    (import "witlet:volume/files@0.1.0" "[method]volume-dir.write" (func $write (;3;) (type 2)))
    (import "witlet:volume/files@0.1.0" "[method]volume-dir.set-ready" (func $set-ready (;4;) (type 1)))
    (import "witlet:volume/files@0.1.0" "[method]volume-dir.destroy" (func $destroy (;5;) (type 3)))
    (memory (;0;) 2)
    (global $heap (;0;) (mut i32) i32.const 8192)
    (export "memory" (memory 0))
    (export "cabi_realloc" (func 6))
    (export "witlet:volume/driver@0.1.0#publish" (func 10))
    (export "witlet:volume/driver@0.1.0#unpublish" (func 11))
    (func (;6;) (type 4) (param i32 i32 i32) (param $size i32) (result i32)
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
    (func $error (;7;) (type 5) (param $case i32) (param $at i32) (param $len i32) (result i32)
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
    (func $recurse (;8;) (type 6) (param i32) (result i32)
      local.get 0
      i32.const 1
      i32.add
      call $recurse
      i32.const 1
      i32.add
    )
    (func $done (;9;) (type 6) (param $dir i32) (result i32)
      local.get $dir
      call $drop-dir
      i32.const 128
      i32.load8_u
      if ;; label = @1
        i32.const 132
        i32.load8_u
        i32.const 136
        i32.load
        i32.const 140
        i32.load
        call $error
        return
      end
      i32.const 1024
      i32.const 0
      i32.store8
      i32.const 1028
      i32.const 0
      i32.store8
      i32.const 1032
      i32.const 256
      i32.store
      i32.const 1036
      i32.const 0
      i32.store
      i32.const 1040
      i32.const 0
      i32.store8
      i32.const 1041
      i32.const 1
      i32.store8
      i32.const 1024
    )
    (func (;10;) (type 4) (param $pod i32) (param i32 i32) (param $dir i32) (result i32)
      local.get $pod
      call $drop-pod
      local.get $dir
      i32.const 511
      i32.const 128
      call $create
      i32.const 128
      i32.load8_u
      if ;; label = @1
        local.get $dir
        call $done
        return
      end
      local.get $dir
      i32.const 16
      i32.const 4
      i32.const 32
      i32.const 7
      i32.const 420
      i32.const 128
      call $write
      i32.const 128
      i32.load8_u
      if ;; label = @1
        local.get $dir
        call $done
        return
      end
      local.get $dir
      i32.const 1
      i32.const 128
      call $set-ready
      local.get $dir
      call $done
    )
    (func (;11;) (type 6) (param $dir i32) (result i32)
      local.get $dir
      i32.const 0
      i32.const 128
      call $set-ready
      local.get $dir
      i32.const 128
      call $destroy
      local.get $dir
      call $done
    )
    (data (;0;) (i32.const 16) "file")
    (data (;1;) (i32.const 32) "content")
    (data (;2;) (i32.const 256) "")
    (@custom "witlet:manifest" (after data) "{\22capabilities\22:[\22files\22],\22kind\22:\22volume\22,\22name\22:\22test\22,\22sdk\22:\22none\22,\22state_version\22:0,\22track\22:\220.1\22,\22version\22:\221.0.0\22}")
    (@producers
      (processed-by "wit-component" "0.254.2")
    )
  )
  (core module $wit-component-shim-module (;1;)
    (type (;0;) (func (param i32 i32 i32)))
    (type (;1;) (func (param i32 i32 i32 i32 i32 i32 i32)))
    (type (;2;) (func (param i32 i32)))
    (table (;0;) 4 4 funcref)
    (export "0" (func 0))
    (export "1" (func 1))
    (export "2" (func 2))
    (export "3" (func 3))
    (export "$imports" (table 0))
    (func (;0;) (type 0) (param i32 i32 i32)
      local.get 0
      local.get 1
      local.get 2
      i32.const 0
      call_indirect (type 0)
    )
    (func (;1;) (type 1) (param i32 i32 i32 i32 i32 i32 i32)
      local.get 0
      local.get 1
      local.get 2
      local.get 3
      local.get 4
      local.get 5
      local.get 6
      i32.const 1
      call_indirect (type 1)
    )
    (func (;2;) (type 0) (param i32 i32 i32)
      local.get 0
      local.get 1
      local.get 2
      i32.const 2
      call_indirect (type 0)
    )
    (func (;3;) (type 2) (param i32 i32)
      local.get 0
      local.get 1
      i32.const 3
      call_indirect (type 2)
    )
    (@producers
      (processed-by "wit-component" "0.254.2")
    )
  )
  (core module $wit-component-fixup (;2;)
    (type (;0;) (func (param i32 i32 i32)))
    (type (;1;) (func (param i32 i32 i32 i32 i32 i32 i32)))
    (type (;2;) (func (param i32 i32)))
    (import "" "0" (func (;0;) (type 0)))
    (import "" "1" (func (;1;) (type 1)))
    (import "" "2" (func (;2;) (type 0)))
    (import "" "3" (func (;3;) (type 2)))
    (import "" "$imports" (table (;0;) 4 4 funcref))
    (elem (;0;) (i32.const 0) func 0 1 2 3)
    (@producers
      (processed-by "wit-component" "0.254.2")
    )
  )
  (core instance $wit-component-shim-instance (;0;) (instantiate $wit-component-shim-module))
  (alias export $witlet:base/types@0.1.0 "error" (type $"#type4 error" (@name "error") (;4;)))
  (alias export $witlet:base/objects@0.1.0 "pod" (type $pod (;5;)))
  (alias export $witlet:volume/files@0.1.0 "volume-dir" (type $volume-dir (;6;)))
  (type (;7;) (option string))
  (type (;8;) (record (field "host-path" 7) (field "read-only" bool) (field "follows-source" bool)))
  (alias export $witlet:base/objects@0.1.0 "pod" (type $"#type9 pod" (@name "pod") (;9;)))
  (core func $resource.drop (;0;) (canon resource.drop $"#type9 pod"))
  (core instance $witlet:base/objects@0.1.0 (;1;)
    (export "[resource-drop]pod" (func $resource.drop))
  )
  (alias export $witlet:volume/files@0.1.0 "volume-dir" (type $"#type10 volume-dir" (@name "volume-dir") (;10;)))
  (core func $"#core-func1 resource.drop" (@name "resource.drop") (;1;) (canon resource.drop $"#type10 volume-dir"))
  (alias core export $wit-component-shim-instance "0" (core func $"indirect-witlet:volume/files@0.1.0-[method]volume-dir.create" (;2;)))
  (alias core export $wit-component-shim-instance "1" (core func $"indirect-witlet:volume/files@0.1.0-[method]volume-dir.write" (;3;)))
  (alias core export $wit-component-shim-instance "2" (core func $"indirect-witlet:volume/files@0.1.0-[method]volume-dir.set-ready" (;4;)))
  (alias core export $wit-component-shim-instance "3" (core func $"indirect-witlet:volume/files@0.1.0-[method]volume-dir.destroy" (;5;)))
  (core instance $witlet:volume/files@0.1.0 (;2;)
    (export "[resource-drop]volume-dir" (func $"#core-func1 resource.drop"))
    (export "[method]volume-dir.create" (func $"indirect-witlet:volume/files@0.1.0-[method]volume-dir.create"))
    (export "[method]volume-dir.write" (func $"indirect-witlet:volume/files@0.1.0-[method]volume-dir.write"))
    (export "[method]volume-dir.set-ready" (func $"indirect-witlet:volume/files@0.1.0-[method]volume-dir.set-ready"))
    (export "[method]volume-dir.destroy" (func $"indirect-witlet:volume/files@0.1.0-[method]volume-dir.destroy"))
  )
  (core instance $main (;3;) (instantiate $main
      (with "witlet:base/objects@0.1.0" (instance $witlet:base/objects@0.1.0))
      (with "witlet:volume/files@0.1.0" (instance $witlet:volume/files@0.1.0))
    )
  )
  (alias core export $main "memory" (core memory $memory (;0;)))
  (alias core export $wit-component-shim-instance "$imports" (core table $"shim table" (;0;)))
  (alias export $witlet:volume/files@0.1.0 "[method]volume-dir.create" (func $"[method]volume-dir.create" (;0;)))
  (alias core export $main "cabi_realloc" (core func $realloc (;6;)))
  (core func $"#core-func7 indirect-witlet:volume/files@0.1.0-[method]volume-dir.create" (@name "indirect-witlet:volume/files@0.1.0-[method]volume-dir.create") (;7;) (canon lower (func $"[method]volume-dir.create") (memory $memory) (realloc $realloc) string-encoding=utf8))
  (alias export $witlet:volume/files@0.1.0 "[method]volume-dir.write" (func $"[method]volume-dir.write" (;1;)))
  (core func $"#core-func8 indirect-witlet:volume/files@0.1.0-[method]volume-dir.write" (@name "indirect-witlet:volume/files@0.1.0-[method]volume-dir.write") (;8;) (canon lower (func $"[method]volume-dir.write") (memory $memory) (realloc $realloc) string-encoding=utf8))
  (alias export $witlet:volume/files@0.1.0 "[method]volume-dir.set-ready" (func $"[method]volume-dir.set-ready" (;2;)))
  (core func $"#core-func9 indirect-witlet:volume/files@0.1.0-[method]volume-dir.set-ready" (@name "indirect-witlet:volume/files@0.1.0-[method]volume-dir.set-ready") (;9;) (canon lower (func $"[method]volume-dir.set-ready") (memory $memory) (realloc $realloc) string-encoding=utf8))
  (alias export $witlet:volume/files@0.1.0 "[method]volume-dir.destroy" (func $"[method]volume-dir.destroy" (;3;)))
  (core func $"#core-func10 indirect-witlet:volume/files@0.1.0-[method]volume-dir.destroy" (@name "indirect-witlet:volume/files@0.1.0-[method]volume-dir.destroy") (;10;) (canon lower (func $"[method]volume-dir.destroy") (memory $memory) (realloc $realloc) string-encoding=utf8))
  (core instance $fixup-args (;4;)
    (export "$imports" (table $"shim table"))
    (export "0" (func $"#core-func7 indirect-witlet:volume/files@0.1.0-[method]volume-dir.create"))
    (export "1" (func $"#core-func8 indirect-witlet:volume/files@0.1.0-[method]volume-dir.write"))
    (export "2" (func $"#core-func9 indirect-witlet:volume/files@0.1.0-[method]volume-dir.set-ready"))
    (export "3" (func $"#core-func10 indirect-witlet:volume/files@0.1.0-[method]volume-dir.destroy"))
  )
  (core instance $fixup (;5;) (instantiate $wit-component-fixup
      (with "" (instance $fixup-args))
    )
  )
  (type (;11;) (borrow $pod))
  (type (;12;) (borrow $volume-dir))
  (type (;13;) (result 8 (error $"#type4 error")))
  (type (;14;) (func (param "pod" 11) (param "volume" string) (param "target" 12) (result 13)))
  (alias core export $main "witlet:volume/driver@0.1.0#publish" (core func $witlet:volume/driver@0.1.0#publish (;11;)))
  (func $publish (;4;) (type 14) (canon lift (core func $witlet:volume/driver@0.1.0#publish) (memory $memory) (realloc $realloc) string-encoding=utf8))
  (type (;15;) (result (error $"#type4 error")))
  (type (;16;) (func (param "target" 12) (result 15)))
  (alias core export $main "witlet:volume/driver@0.1.0#unpublish" (core func $witlet:volume/driver@0.1.0#unpublish (;12;)))
  (func $unpublish (;5;) (type 16) (canon lift (core func $witlet:volume/driver@0.1.0#unpublish) (memory $memory) string-encoding=utf8))
  (component $witlet:volume/driver@0.1.0-shim-component (;0;)
    (type (;0;) (variant (case "invalid" string) (case "not-found" string) (case "denied" string) (case "unavailable" string) (case "timeout" string) (case "failed" string) (case "other" string)))
    (import "import-type-error" (type (;1;) (eq 0)))
    (import "import-type-pod" (type (;2;) (sub resource)))
    (import "import-type-volume-dir" (type (;3;) (sub resource)))
    (import "import-type-pod0" (type (;4;) (eq 2)))
    (type (;5;) (borrow 4))
    (import "import-type-volume-dir0" (type (;6;) (eq 3)))
    (type (;7;) (borrow 6))
    (type (;8;) (option string))
    (type (;9;) (record (field "host-path" 8) (field "read-only" bool) (field "follows-source" bool)))
    (import "import-type-published" (type (;10;) (eq 9)))
    (import "import-type-error0" (type (;11;) (eq 1)))
    (type (;12;) (result 10 (error 11)))
    (type (;13;) (func (param "pod" 5) (param "volume" string) (param "target" 7) (result 12)))
    (import "import-func-publish" (func (;0;) (type 13)))
    (type (;14;) (result (error 11)))
    (type (;15;) (func (param "target" 7) (result 14)))
    (import "import-func-unpublish" (func (;1;) (type 15)))
    (export (;16;) "error" (type 1))
    (export (;17;) "pod" (type 2))
    (export (;18;) "volume-dir" (type 3))
    (type (;19;) (option string))
    (type (;20;) (record (field "host-path" 19) (field "read-only" bool) (field "follows-source" bool)))
    (export (;21;) "published" (type 20))
    (type (;22;) (borrow 17))
    (type (;23;) (borrow 18))
    (type (;24;) (result 21 (error 16)))
    (type (;25;) (func (param "pod" 22) (param "volume" string) (param "target" 23) (result 24)))
    (export (;2;) "publish" (func 0) (func (type 25)))
    (type (;26;) (result (error 16)))
    (type (;27;) (func (param "target" 23) (result 26)))
    (export (;3;) "unpublish" (func 1) (func (type 27)))
  )
  (instance $witlet:volume/driver@0.1.0-shim-instance (;3;) (instantiate $witlet:volume/driver@0.1.0-shim-component
      (with "import-func-publish" (func $publish))
      (with "import-func-unpublish" (func $unpublish))
      (with "import-type-error" (type $"#type4 error"))
      (with "import-type-pod" (type $pod))
      (with "import-type-volume-dir" (type $volume-dir))
      (with "import-type-pod0" (type $pod))
      (with "import-type-volume-dir0" (type $volume-dir))
      (with "import-type-published" (type 8))
      (with "import-type-error0" (type $"#type4 error"))
    )
  )
  (export $witlet:volume/driver@0.1.0 (;4;) "witlet:volume/driver@0.1.0" (instance $witlet:volume/driver@0.1.0-shim-instance))
  (@producers
    (processed-by "wit-component" "0.254.2")
  )
)
