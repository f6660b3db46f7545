# frozen_string_literal: true

require "fileutils"
require "open3"
require "shellwords"

module KinoBench
  # The file that servers of files are asked for, in a directory where nothing else is.
  module StaticFile
    NAME = "64k.bin"
    BYTES = 64 * 1024

    # Returns the directory, which is made in another.
    def self.write(directory)
      File.join(directory, "files").tap do |files|
        FileUtils.mkdir_p(files)
        File.binwrite(File.join(files, NAME), Random.new(BYTES).bytes(BYTES))
      end
    end
  end

  # How to start one server: here any command, below the kinds that kino-bench knows.
  class Server
    attr_reader :name

    # arguments: where one holds %{port}, the port takes its place; where one holds %{directory},
    # that of StaticFile.
    def initialize(name, arguments)
      @name = name
      @arguments = arguments
    end

    # directory: the server's own, for what must be written before it starts.
    def command(port, directory)
      [*program(port, directory), *@arguments.map { fill(_1, port, directory) }]
    end

    def environment = {}

    # The shell command that installs what is missing; nil when the server can be started.
    def remedy = nil

    # Brings what was built up to date with its sources, so that old code is never measured. Once
    # for all servers of a kind.
    def refresh; end

    def ruby? = false

    private

    def program(_port, _directory) = []

    def fill(argument, port, directory)
      argument.gsub("%{port}", port.to_s).gsub("%{directory}") { StaticFile.write(directory) }
    end

    def run(*command, **options)
      output, status = Open3.capture2e(*command, **options)
      raise Failure, "#{command.join(' ')} failed:\n#{output}" unless status.success?
    rescue Errno::ENOENT => e
      raise Failure, "#{name} cannot be built: #{e.message}"
    end
  end

  # An example of libkino, built for release.
  class ExampleServer < Server
    BUILD = File.join(ROOT, "build/bench")

    def initialize(name, program, arguments)
      super(name, arguments)
      @program = program
    end

    def remedy
      return if executable

      "meson setup --buildtype=release -Dtests=disabled #{BUILD} #{ROOT} && " \
        "meson compile -C #{BUILD}"
    end

    def refresh = run("meson", "compile", "-C", BUILD)

    private

    def program(*) = [executable]

    def executable = Dir[File.join(BUILD, "**", @program)].find { File.file?(_1) }
  end

  # Debian's nginx with one worker, answering from its configuration or from a file.
  class NginxServer < Server
    TEXT = 'location = /plaintext { return 200 "Hello World"; }'
    FILE = <<~NGINX
      location = /#{StaticFile::NAME} {
        root %{directory};
        sendfile on;
        tcp_nopush on;
        open_file_cache max=100;
        open_file_cache_valid 60s;
      }
    NGINX
    CONNECTIONS = 4096

    # location: what it answers. idle: how many connections it must hold beside those in use.
    def initialize(name, location, idle:)
      super(name, [])
      @location = location
      @connections = CONNECTIONS + idle
    end

    def remedy
      "apt-get install nginx-light" unless executable
    end

    private

    # /usr/sbin is in nobody's PATH but root's.
    def executable
      ENV["PATH"].split(":").push("/usr/sbin").map { "#{_1}/nginx" }.find { File.executable?(_1) }
    end

    def program(port, directory)
      file = File.join(directory, "nginx.conf")
      File.write(file, configuration(port, directory))
      [executable, "-p", directory, "-c", file]
    end

    # Who started it: root's nginx would go over to a user who may not read the file.
    def user = Process.uid.zero? ? "user root;" : ""

    def configuration(port, directory)
      temporary = %w[client_body proxy fastcgi uwsgi scgi].map { "#{_1}_temp_path #{directory};" }
      <<~NGINX
        daemon off;
        #{user}
        worker_processes 1;
        pid #{directory}/nginx.pid;
        error_log stderr crit;
        events { worker_connections #{@connections}; }
        http {
          access_log off;
          keepalive_requests 1000000000;
          default_type text/plain;
          #{temporary.join(' ')}
          server {
            listen 127.0.0.1:#{port};
            #{fill(@location, port, directory)}
            location / { return 404; }
          }
        }
      NGINX
    end
  end

  # A server that runs perf/apps/bench.ru; all of them on one Ruby, with YJIT, in production, and
  # with nothing of the caller's gems.
  class RubyServer < Server
    APP = File.join(ROOT, "perf/apps/bench.ru")
    CLEAN = %w[RUBYOPT RUBYLIB GEM_HOME GEM_PATH BUNDLE_GEMFILE BUNDLE_PATH].to_h { [_1, nil] }

    # ruby: called for the Ruby's path when it is needed.
    def initialize(name, arguments, ruby:)
      super(name, [*arguments, APP])
      @ruby = ruby
    end

    def environment = CLEAN.merge("RACK_ENV" => "production", "RUBY_YJIT_ENABLE" => "1")

    def ruby? = true
  end

  # This repository's gem, run from the checkout.
  class CheckoutServer < RubyServer
    GEM = File.join(ROOT, "bindings/ruby")
    TOOLS = File.join(ROOT, "tools")

    def refresh
      run("#{TOOLS}/gems", @ruby.call)
      run("#{TOOLS}/with-ruby", @ruby.call, "bundle", "exec", "rake", "compile", chdir: GEM)
    end

    private

    def program(*)
      ["#{TOOLS}/with-ruby", @ruby.call, "-rbundler/setup", "-I#{GEM}/lib", "#{GEM}/exe/kino"]
    end
  end

  # Another server's gem, in a GEM_HOME of its own: Kino's and ours both own lib/kino.rb.
  class PeerServer < RubyServer
    def initialize(name, arguments, gem:, version:, ruby:)
      super(name, arguments, ruby:)
      @gem = gem
      @version = version
      @home = ENV.fetch("#{gem.upcase}_GEM_HOME", File.join(ROOT, "perf/vendor", gem))
    end

    def environment = super.merge("GEM_HOME" => @home, "GEM_PATH" => @home)

    def remedy
      return if File.exist?(executable)

      [File.join(File.dirname(@ruby.call), "gem"), "install", "--no-document", "--install-dir",
       @home, @gem, "--version", @version].shelljoin
    end

    private

    def program(*) = [@ruby.call, executable]

    def executable = File.join(@home, "bin", @gem)
  end
end
