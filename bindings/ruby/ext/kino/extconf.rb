# frozen_string_literal: true

require "mkmf"

# Compiles libkino's sources into the extension, so that a gem needs nothing of it installed. They
# are beside this file in a packaged gem, and at the top of a checkout.
libkino = [File.join(__dir__, "libkino"), File.expand_path("../../../../libkino", __dir__)]
          .find { File.exist?(File.join(_1, "sources.txt")) }
abort "libkino's sources are missing: #{__dir__}/libkino" unless libkino

Library = Struct.new(:name, :header, :function, :package)
libraries = [
  Library.new("uring", "liburing.h", "io_uring_queue_init_params", "liburing-dev"),
  Library.new("llhttp", "llhttp.h", "llhttp_execute", "libllhttp-dev"),
  Library.new("mimalloc", "mimalloc.h", "mi_malloc", "libmimalloc-dev"),
  Library.new("pthread", "pthread.h", "pthread_create", "libc6-dev")
]
missing = libraries.reject do |library|
  have_header(library.header) && have_library(library.name, library.function, library.header)
end
unless missing.empty?
  abort <<~TEXT
    kino-uring needs #{missing.map { "lib#{_1.name}" }.join(', ')}. On Debian 13 or newer:

        apt-get install #{missing.map(&:package).join(' ')}
  TEXT
end

have_func("rb_thread_lock_native_thread", "ruby/thread.h") # since Ruby 3.4
have_func("rb_ext_ractor_safe", "ruby.h")

$INCFLAGS << " -I#{libkino}/include -I#{libkino}/src"
# Nothing is exported but Init_kino_ext: another libkino in the process is none of our business.
$defs << "-D_GNU_SOURCE" << "-DKINO_API="
$CFLAGS << " -std=gnu11 -O2 -fvisibility=hidden"
# Ruby's own flags dislike what libkino's style asks for.
$warnflags = "-Wall -Wextra -Wno-unused-parameter"

# Both halves have a server.c and a worker.c, so objects of the library carry their room's name.
sources = File.readlines(File.join(libkino, "sources.txt"), chomp: true)
              .map { _1.sub(/#.*/, "").strip }.reject(&:empty?)
objects = sources.to_h { ["#{_1.delete_suffix('.c').tr('/', '-')}.o", File.join(libkino, _1)] }
$srcs = Dir.glob("*.c", base: __dir__)
$objs = $srcs.map { _1.sub(/\.c\z/, ".o") } + objects.keys

create_makefile("kino/kino_ext")

headers = Dir.glob(["#{libkino}/{include,src}/**/*.h", "#{__dir__}/*.h"])
File.open("Makefile", "a") do |makefile|
  makefile.puts "$(OBJS): #{headers.join(' ')}"
  objects.each do |object, source|
    makefile.puts "#{object}: #{source}",
                  "\t$(ECHO) compiling #{File.basename(source)}",
                  "\t$(Q) $(CC) $(INCFLAGS) $(CPPFLAGS) $(CFLAGS) $(COUTFLAG)$@ -c #{source}"
  end
end
