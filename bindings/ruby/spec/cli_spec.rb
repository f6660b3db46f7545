# frozen_string_literal: true

require "fileutils"
require "tmpdir"

RSpec.describe "The command kino" do
  hello = <<~RUBY
    module Hello
      def self.call(_env) = [200, {}, ["Hello"]]
    end
    run Hello
  RUBY

  # Runs it to its end; gives status, output and errors.
  def run(*arguments, **options)
    Serving::Command.run(*arguments, **options) do |command|
      status = command.wait or raise "it has not ended"
      [status.exitstatus, command.output, command.errors]
    end
  end

  def answer_of(*arguments, rackup:)
    Serving::Command.run("-p", "0", *arguments, rackup:) do |command|
      yield command
      command.signal(:TERM)
      expect(command.wait).to be_success
    end
  end

  it "serves, and says how and where" do
    answer_of("-w", "2", "-t", "3", "-m", "threaded", "--dispatch", "inline", rackup: hello) do |kino|
      expect(Client.get(kino.port, "/").body).to eq "Hello"
      expect(kino.said).to match(/\Akino 0\.1\.0 · ruby #{RUBY_VERSION}.* · mode threaded · /)
      expect(kino.said).to include " · workers 2 × 3 · dispatch inline · pid #{kino.pid}\n"
      expect(kino.said).to end_with "listening: http://127.0.0.1:#{kino.port}\n"
    end
  end

  it "serves from Ractors, with the long forms of its options" do
    answer_of("--mode=ractor", "--workers=1", "--threads=2", "--bind=localhost", rackup: hello) do |kino|
      expect(Client.get(kino.port, "/").body).to eq "Hello"
      expect(kino.said).to include " · mode ractor · workers 1 × 2 · dispatch queue · "
      expect(kino.said).to end_with "listening: http://localhost:#{kino.port}\n"
    end
  end

  it "serves config.ru of the directory it is called in" do
    Dir.mktmpdir do |directory|
      File.write("#{directory}/config.ru", hello)
      Dir.chdir(directory) do
        answer_of("-m", "threaded", rackup: nil) do |kino|
          expect(Client.get(kino.port, "/").body).to eq "Hello"
        end
      end
    end
  end

  it "gives Ruby a native thread for each of many Ractors, keeping its options" do
    app = 'run(Module.new { def self.call(_) = [200, {}, ["#{ENV["RUBY_MAX_CPU"]} #{$VERBOSE}"]] })'
    Serving::Command.run("-p", "0", "-m", "ractor", "-w", "12", rackup: app,
                                                                ruby_options: ["-W2"]) do |kino|
      expect(Client.get(kino.port, "/").body).to eq "12 true"
    end
  end

  it "prints its version" do
    expect(run("-v")).to match [0, /\Akino 0\.1\.0 \(ruby /, ""]
  end

  it "prints its options" do
    status, output, = run("--help")
    expect(status).to eq 0
    expect(output).to include("-b", "-p", "-w", "-t", "-m", "--dispatch", "-v", "-h", "[config.ru]")
  end

  # Arguments and what is said of them.
  {
    %w[--rocket] => "invalid option: --rocket (kino -h lists the options)",
    %w[-p] => "missing argument: -p (kino -h lists the options)",
    %w[-p http] => "invalid argument: -p http (kino -h lists the options)",
    %w[-p 65536] => "port is 65536, but must be an Integer, 0 .. 65535",
    %w[-p -1] => "port is -1, but must be an Integer, 0 .. 65535",
    %w[-w 0] => "workers is 0, but must be an Integer, 1 or more",
    %w[-w two] => "invalid argument: -w two (kino -h lists the options)",
    %w[-t 0] => "threads is 0, but must be an Integer, 1 or more",
    %w[-m rocket] => "invalid argument: -m rocket (kino -h lists the options)",
    %w[--dispatch rocket] => "invalid argument: --dispatch rocket (kino -h lists the options)",
    %w[-b] => "missing argument: -b (kino -h lists the options)",
    ["-b", ""] => 'bind is "", but must be a String that is not empty',
    %w[a.ru b.ru] => "one rackup file is enough: a.ru b.ru",
    %w[missing.ru] => "there is no rackup file missing.ru"
  }.each do |arguments, said|
    it "says what is wrong with `#{arguments.join(' ')}`, in one line" do
      expect(run(*arguments)).to eq [1, "", "kino: #{said}\n"]
    end
  end

  {
    "a syntax error" => ["run(Hello\nend\n", /:\d+: .*(unexpected|expected).*/],
    "an unknown constant" => ["\nrun Missing\n", /:2:.* uninitialized constant .*Missing.*\(NameError\)/],
    "a missing library" => ["require 'no/such/library'\n", /cannot load .*no.such.library.* \(LoadError\)/],
    "no app" => ["use Rack::Head\n", /missing run or map statement.*/]
  }.each do |name, (rackup, said)|
    it "says that a rackup file has #{name}, in one line" do
      expect(run(rackup:)).to match [1, "", /\Akino: .*#{said}\n\z/]
    end
  end

  it "says that an app cannot be shared, in one line" do
    rackup = "lock = Mutex.new\nrun ->(env) { lock.synchronize { [200, {}, []] } }\n"
    expect(run("-m", "ractor", rackup:))
      .to match [1, "", /\Akino: the app cannot be shared among Ractors: the app is a block .*\n\z/]
  end

  it "says that the port is in use, in one line" do
    serve(Apps::Hello) do |server|
      expect(run("-m", "threaded", "-p", server.port.to_s, rackup: hello))
        .to match [1, "", /\Akino: cannot listen on 127\.0\.0\.1:#{server.port}: .*another port\n\z/]
    end
  end

  it "says that a port needs privileges, in one line" do
    skip "here every port is free to all" if File.read("/proc/sys/net/ipv4/ip_unprivileged_port_start").to_i < 2
    without = %w[setpriv --bounding-set=-net_bind_service --inh-caps=-net_bind_service]
    expect(run("-m", "threaded", "-p", "1", rackup: hello, under: Process.uid.zero? ? without : []))
      .to match [1, "", /\Akino: cannot listen on 127\.0\.0\.1:1: .*CAP_NET_BIND_SERVICE.*\n\z/]
  end

  it "says that a host is unknown, in one line" do
    expect(run("-m", "threaded", "-b", "no-such-host.invalid", rackup: hello))
      .to match [1, "", /\Akino: cannot listen on no-such-host\.invalid: .*\n\z/]
  end

  it "is also called kino-uring" do
    expect(File.read("#{Serving::Command::EXE}-uring")).to eq File.read(Serving::Command::EXE)
  end
end
